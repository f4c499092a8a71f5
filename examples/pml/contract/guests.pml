<prompt schema="contract">
  <term/>
  <repairs/>
  <subletting/>
  Question: How long may guests stay without consent?
</prompt>
