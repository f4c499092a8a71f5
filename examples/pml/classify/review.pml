<prompt schema="classify">
  <mood/>
  <user>The soup was cold, and I waited for an hour.</user>
  <assistant open="true">Label:</assistant>
</prompt>
