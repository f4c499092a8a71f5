<!-- Product pages of a small shop: each is read once, and a prompt names those that the question may be about. -->
<schema name="support">
  <system>You answer questions from the given documents.</system>
  <user open="true">
    <module name="lamp" src="pages/lamp.md"/>
    <module name="kettle" src="pages/kettle.md"/>
    <module name="router" src="pages/router.md"/>
    <module name="bicycle" src="pages/bicycle.md"/>
    <module name="vacuum" src="pages/vacuum.md"/>
    <module name="returns" src="pages/returns.md"/>
    <module name="order" wrap="soft">
      Order: the customer bought the <parameter name="product" length="8"/> on
      <parameter name="date" length="10" default="an unknown day"/>.
    </module>
  </user>
</schema>
