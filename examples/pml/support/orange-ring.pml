<prompt schema="support">
  <kettle/>
  <router/>
  <bicycle/>
  <vacuum/>
  <returns/>
  Question: What does an orange ring on the Nettle router mean?
</prompt>
