<prompt schema="tenants">
  <bakery/>
  <bakery-hours/>
  <privacy/>
  <customer name="Ada"/>
  Question: When does the bakery open on Sunday?
</prompt>
