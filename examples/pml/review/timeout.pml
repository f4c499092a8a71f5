<prompt schema="review">
  <errors/>
  <async/>
  <tests/>
  <language>
    <python/>
  </language>
  Title: The change
  def fetch(url: str) -> bytes:
      return requests.get(url).content

  Question: What timeout must a call over the network have?
</prompt>
