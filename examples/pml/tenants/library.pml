<prompt schema="tenants">
  <library/>
  <library-hours/>
  <privacy/>
  <customer/>
  Question: For how many weeks may books be kept?
</prompt>
