import type { OfferList } from "./catalogue.js";
import type { ChatRequest } from "./requests/chat.js";

/** How clients' prompts for titles, tags and the like begin (Open WebUI's do). They are not questions to a corpus. */
const SIDE_TASK = /^### Task:\n/;

type Addressed = Pick<ChatRequest, "messages" | "corpus" | "documents" | "schema"> & { readonly model?: string | undefined };

/** A request to a model id that names a corpus asks the model over that corpus. */
export function overCorpus<Request extends Addressed>(request: Request, offers: OfferList): Request {
  if (!offers.namesCorpus(request.model)) return request;
  const asksDocuments = request.documents == null && request.schema == null && !SIDE_TASK.test(request.messages.at(-1)?.content ?? "");
  return asksDocuments ? { ...request, corpus: request.corpus ?? {} } : request;
}
