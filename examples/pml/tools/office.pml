<prompt schema="tools">
  <search_mail/>
  <send_mail/>
  <book_room/>
  <open_ticket/>
  Question: For how many hours does book_room reserve a room?
</prompt>
