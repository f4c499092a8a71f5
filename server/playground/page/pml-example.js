/** The PML tab's first example: a parameter, a union, a module that is left out, and one that is never cached. */
export const SCHEMA = `<schema name="trip">
  <system>You answer questions from the given documents.</system>
  <user open="true">
    <module name="plan">
      Title: The plan
      We stay for <parameter name="days" length="6"/>.
      <union>
        <module name="miami">
          Title: Miami
          Miami lies on a bay of the Atlantic. A ferry
          to the islands leaves from Dinner Key at
          seven in the morning, and one at noon.
        </module>
        <module name="tokyo">
          Title: Tokyo
          Tokyo lies on a bay of the Pacific. From
          Haneda airport a monorail goes to
          Hamamatsucho station every four minutes.
        </module>
      </union>
    </module>
    <module name="visa">
      Title: Visa
      No visa is needed for up to ninety days.
    </module>
    <module name="weather" cache="false">
      Title: Weather
      It rains today.
    </module>
  </user>
</schema>
`;

export const PROMPT = `<prompt schema="trip">
  <plan days="three days">
    <tokyo/>
  </plan>
  <weather/>
  Question: Where does the monorail go?
</prompt>
`;
