<prompt schema="city">
  <lisbon/>
  <fares.py/>
  <user>Question: Until when do the trams of Lisbon run?</user>
</prompt>
