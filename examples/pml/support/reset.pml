<prompt schema="support">
  <lamp/>
  <router/>
  <vacuum/>
  <returns/>
  <order product="Nettle router" date="3 May"/>
  Question: What does the customer do to reset the Nettle router?
</prompt>
