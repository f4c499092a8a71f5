<prompt schema="city">
  <oslo/>
  <stay days="three days"/>
  <user>Question: How often do the ferries of Oslo go?</user>
</prompt>
