<!-- A catalogue of tools, of which each request offers some. -->
<schema name="tools">
  <system>You answer questions from the given documents.</system>
  <user open="true">
    <module name="search_mail"><![CDATA[Title: search_mail
The tool search_mail finds messages in the mailbox.
{"name": "search_mail", "parameters": {"query": "string", "folder": "string", "limit": "number <= 50"}}
]]></module>
    <module name="send_mail"><![CDATA[Title: send_mail
The tool send_mail sends a message to one or more people. It asks the user to confirm before it sends.
{"name": "send_mail", "parameters": {"to": "string[]", "subject": "string", "body": "string"}}
]]></module>
    <module name="book_room"><![CDATA[Title: book_room
The tool book_room reserves a meeting room of the office for up to four hours, on the same day or later.
{"name": "book_room", "parameters": {"room": "string", "start": "date-time", "hours": "number <= 4"}}
]]></module>
    <module name="exchange_rate"><![CDATA[Title: exchange_rate
The tool exchange_rate gives the rate between two currencies at the close of a day.
{"name": "exchange_rate", "parameters": {"from": "string", "to": "string", "day": "date"}}
]]></module>
    <module name="weather"><![CDATA[Title: weather
The tool weather gives the forecast of a place for the next three days.
{"name": "weather", "parameters": {"place": "string", "days": "number <= 3"}}
]]></module>
    <module name="open_ticket"><![CDATA[Title: open_ticket
The tool open_ticket reports a fault to the help desk and returns the ticket's number.
{"name": "open_ticket", "parameters": {"title": "string", "severity": "low | high", "details": "string"}}
]]></module>
  </user>
</schema>
