<!-- Markup of Prompt Cache, from which kvsplice pml import makes schema.pml. -->
<schema name="city" context="all">
  <system>You answer questions from the given documents.</system>
  <user>
    <union default="lisbon">
      <module name="lisbon">
        Title: Lisbon
        The trams of Lisbon run until one at night. A ticket costs three crowns in the tram, and two at a machine.
      </module>
      <module name="oslo">
        Title: Oslo
        The ferries of Oslo go every twenty minutes. A ticket holds for one hour on ferries, trams and buses.
      </module>
    </union>
    <module name="stay">
      The guest stays for <parameter name="days" length="6" placeholder="some days"/>.
    </module>
    <module name="fares.py">
      def fare(age, zones):
          if age &lt; 6 &amp;&amp; zones &lt;= 2:
              return 0
          return 2 + zones
    </module>
  </user>
</schema>
