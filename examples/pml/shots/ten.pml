<prompt schema="shots">
  <e1/>
  <e4/>
  <e7/>
  <e10/>
  <e13/>
  <e16/>
  <e19/>
  <e22/>
  <e25/>
  <e28/>
  <user>The bus never came, and we stood in the rain for an hour.</user>
</prompt>
