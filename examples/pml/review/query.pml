<prompt schema="review">
  <errors/>
  <database/>
  <async/>
  <tests/>
  <language>
    <typescript/>
  </language>
  Title: The change
  export async function findUser(name: string) {
    return db.query("SELECT id, name FROM users WHERE name = '" + name + "'");
  }

  Question: How do values go into a query?
</prompt>
