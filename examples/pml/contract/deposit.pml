<prompt schema="contract">
  <rent/>
  <deposit/>
  <term/>
  <notices/>
  Question: Within how many days is the deposit paid back?
</prompt>
