"""hugging_face_tokens.py (pip install tokenizers): what Hugging Face tokenizers makes of the texts of test/golden/tokenizers with its small
vocabularies, as tokenizer.json of each kind that is read. Writes hugging-face.json there."""
import json, pathlib, tokenizers
from tokenizers import Tokenizer
g = pathlib.Path(__file__).resolve().parents[2] / "test/golden/tokenizers"
B=json.load(open(g / "bytes.json")); M=json.load(open(g / "marked.json"))
texts=json.load(open(g / "llama-cpp.json"))["texts"]
texts=[t.encode("utf-16-le","surrogatepass").decode("utf-16-le","replace") for t in texts]+["e\u0301le\u0301gant a\u030a n\u0303", "한국어 \u1112\u1161\u11ab", "\u212b \u2126"]
C="(?i:'s|'t|'re|'ve|'m|'ll|'d)"; O=r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
U=r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"; W=r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"; P=r"[^\r\n\p{L}\p{N}]?"
cased=lambda e,d: f"{P}{U}*{W}+{e}|{P}{U}+{W}*{e}|{d}"+r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
rx={"llama-3":C+r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"+O,"qwen2":C+r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"+O,"tekken":cased("",r"\p{N}"),"gpt-4o":cased(C+"?",r"\p{N}{1,3}"),
 "cl100k":r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"}
bl=lambda r:{"type":"ByteLevel","add_prefix_space":False,"trim_offsets":True,"use_regex":r}
seq=lambda *s:{"type":"Sequence","pretokenizers":list(s)}
split=lambda r:seq({"type":"Split","pattern":{"Regex":r},"behavior":"Isolated","invert":False},bl(False))
def parts(V,fallback):
    toks=V["tokenizer.ggml.tokens"];ty=V["tokenizer.ggml.token_type"]
    added=[{"id":i,"content":t,"single_word":False,"lstrip":False,"rstrip":False,"normalized":False,"special":ty[i]==3} for i,t in enumerate(toks) if ty[i] in (2,3,4)]
    vocab={t:i for i,t in enumerate(toks)}
    return toks,added,vocab
def make(name,pre,norm=None,post=None,ignore=False,spm=None):
    V=M if spm else B
    toks,added,vocab=parts(V,spm)
    if spm:
        # merges in the order of the scores, as they were learnt
        order=[t for i,t in enumerate(toks) if V["tokenizer.ggml.token_type"][i]==1 and len(t)>1]
        rank={t:V["tokenizer.ggml.scores"][vocab[t]] for t in vocab}
        merges=[]
        for t in sorted(order,key=lambda t:-rank[t]):
            for k in range(1,len(t)):
                if t[:k] in vocab and t[k:] in vocab: merges.append([t[:k],t[k:]])
        model={"type":"BPE","dropout":None,"unk_token":"<unk>","continuing_subword_prefix":None,"end_of_word_suffix":None,"fuse_unk":True,"byte_fallback":True,"ignore_merges":False,"vocab":vocab,"merges":merges}
    else:
        model={"type":"BPE","dropout":None,"unk_token":None,"continuing_subword_prefix":None,"end_of_word_suffix":None,"fuse_unk":False,"byte_fallback":False,"ignore_merges":ignore,"vocab":vocab,"merges":V["tokenizer.ggml.merges"]}
    j={"version":"1.0","truncation":None,"padding":None,"added_tokens":added,"normalizer":norm,"pre_tokenizer":pre,"post_processor":post,"decoder":None,"model":model}
    tk=Tokenizer.from_str(json.dumps(j))
    ids=[" ".join(map(str,tk.encode(t,add_special_tokens=False).ids)) for t in texts]
    framed=tk.encode("x").ids
    m={"type":"BPE","unk_token":model["unk_token"],"byte_fallback":model["byte_fallback"],"ignore_merges":model["ignore_merges"]}
    if spm: m["merges"]=merges
    return {"name":name,"vocabulary":"marked" if spm else "bytes","json":{"normalizer":norm,"pre_tokenizer":pre,"post_processor":post,"model":m},"ids":ids,"framed":framed}
bos={"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<|im_start|>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[{"Sequence":{"id":"A","type_id":0}},{"Sequence":{"id":"B","type_id":1}}],"special_tokens":{"<|im_start|>":{"id":"<|im_start|>","ids":[B["tokenizer.ggml.bos_token_id"]],"tokens":["<|im_start|>"]}}}
rep={"type":"Replace","pattern":{"String":" "},"content":"\u2581"}
cases=[make("gpt-2",bl(True)),make("smollm",seq({"type":"Digits","individual_digits":True},bl(True))),
 make("llama-3",split(rx["llama-3"]),post={"type":"Sequence","processors":[bl(True),bos]},ignore=True),
 make("qwen2",split(rx["qwen2"]),norm={"type":"NFC"}),make("tekken",split(rx["tekken"]),ignore=True),make("gpt-4o",split(rx["gpt-4o"])),make("cl100k",split(rx["cl100k"])),
 make("prepend",None,norm={"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"\u2581"},rep]},spm=True),
 make("replace",{"type":"Split","pattern":{"String":" "},"behavior":"MergedWithPrevious","invert":False},norm=rep,spm=True),
 make("metaspace",{"type":"Metaspace","replacement":"\u2581","prepend_scheme":"first","split":False},spm=True)]
mer=cases[-1]["json"]["model"]["merges"]
for c in cases:
    if c["vocabulary"]=="marked": del c["json"]["model"]["merges"]
json.dump({"made":f"Hugging Face tokenizers {tokenizers.__version__}","texts":texts,"markedMerges":mer,"cases":cases},open(g / "hugging-face.json", "w"),ensure_ascii=True,separators=(",",":"))
