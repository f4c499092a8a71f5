<prompt schema="tenants">
  <gym/>
  <gym-hours/>
  <privacy/>
  Question: For how many days are things from lockers kept at the desk?
</prompt>
