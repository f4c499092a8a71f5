<prompt schema="tools">
  <exchange_rate/>
  <weather/>
  <send_mail/>
  Question: Which tool gives the forecast of a place?
</prompt>
