<!-- Rules of a team, a module each; a review names those that the changed files fall under, and gives the change. -->
<schema name="review">
  <system>You answer questions from the given documents.</system>
  <user open="true">
    <module name="errors" src="rules/errors.md"/>
    <module name="database" src="rules/database.md"/>
    <module name="async" src="rules/async.md"/>
    <module name="tests" src="rules/tests.md"/>
    <module name="language">
      <union>
        <module name="typescript" src="rules/typescript.md"/>
        <module name="python" src="rules/python.md"/>
      </union>
    </module>
    <!-- A query inside of an async function is the change that is reviewed most. -->
    <scaffold name="queries" modules="database async"/>
  </user>
</schema>
