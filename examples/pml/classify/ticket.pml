<prompt schema="classify">
  <ticket/>
  <user>I was billed for a month after I had cancelled.</user>
  <assistant open="true">Label:</assistant>
</prompt>
