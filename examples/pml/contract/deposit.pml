<prompt schema="contract">
  <rent/>
  <deposit/>
  <term/>
  <notices/>
  Question: How many months' rent is the deposit?
</prompt>
