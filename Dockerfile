# kvsplice with its model and its embedder: a server, a worker, or any other command. docs/deploying.md says how to run it.

FROM node:24-bookworm-slim AS build
# hnswlib-node is compiled; without it, vectors would be searched exactly.
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install --yes --no-install-recommends g++ make python3 \
  && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY package.json package-lock.json ./
COPY release/no-download release/no-download
RUN npm ci --ignore-scripts && npm rebuild hnswlib-node
COPY . .
# What runs needs no compiler, and of ONNX Runtime this platform's binaries alone.
RUN npm run build \
  && npm prune --omit=dev --ignore-scripts \
  && find node_modules/onnxruntime-node/bin/napi-v6 -mindepth 2 -maxdepth 2 \
    -not -path "*/linux/$(node -p process.arch)" -exec rm -r {} +

FROM node:24-bookworm-slim
ENV NODE_ENV=production \
  KVSPLICE_CACHE_DIR=/var/cache/kvsplice
RUN install --directory --owner=node --group=node /var/cache/kvsplice /var/lib/kvsplice
COPY --from=build /app/package.json /app/LICENSE /app/NOTICE /app/
COPY --from=build /app/node_modules /app/node_modules
COPY --from=build /app/models /app/models
COPY --from=build /app/dist /app/dist
# The user node of the image.
USER 1000
WORKDIR /var/lib/kvsplice
VOLUME ["/var/lib/kvsplice", "/var/cache/kvsplice"]
EXPOSE 8585
ENTRYPOINT ["node", "/app/dist/cli/main.js"]
CMD ["--help"]
