<!-- A lease, a module for each clause: a question names the clauses that it may be about. -->
<schema name="contract">
  <system>You answer questions from the given documents.</system>
  <user open="true">
    <module name="rent" src="clauses/rent.md"/>
    <module name="deposit" src="clauses/deposit.md"/>
    <module name="term" src="clauses/term.md"/>
    <module name="repairs" src="clauses/repairs.md"/>
    <module name="subletting" src="clauses/subletting.md"/>
    <module name="notices" src="clauses/notices.md"/>
  </user>
</schema>
