<!-- Thirty examples, a module each: a prompt takes those that it wants. Each sees the ones before it, as in one text. -->
<schema name="shots" context="all">
  <system>Classify each text as Positive or Negative.</system>
  <module name="e1">
    <user>I love this phone, the screen is wonderful.</user>
    <assistant>Positive</assistant>
  </module>
  <module name="e2">
    <user>The food was cold and the waiter was rude.</user>
    <assistant>Negative</assistant>
  </module>
  <module name="e3">
    <user>What a great day, we had so much fun!</user>
    <assistant>Positive</assistant>
  </module>
  <module name="e4">
    <user>It broke after two days and nobody helped me.</user>
    <assistant>Negative</assistant>
  </module>
  <module name="e5">
    <user>The staff was kind and the room had a lovely view.</user>
    <assistant>Positive</assistant>
  </module>
  <module name="e6">
    <user>I want my money back, this is the worst bag that I ever had.</user>
    <assistant>Negative</assistant>
  </module>
  <module name="e7">
    <user>My children read this book three times and laughed each time.</user>
    <assistant>Positive</assistant>
  </module>
  <module name="e8">
    <user>The train was late, crowded and far too hot.</user>
    <assistant>Negative</assistant>
  </module>
  <module name="e9">
    <user>The soup was hot, rich and worth every coin.</user>
    <assistant>Positive</assistant>
  </module>
  <module name="e10">
    <user>The room smelled of smoke and the bed was hard.</user>
    <assistant>Negative</assistant>
  </module>
  <module name="e11">
    <user>She sang so well that nobody wanted to go home.</user>
    <assistant>Positive</assistant>
  </module>
  <module name="e12">
    <user>He shouted at us for no reason at all.</user>
    <assistant>Negative</assistant>
  </module>
  <module name="e13">
    <user>The repair took ten minutes and cost nothing.</user>
    <assistant>Positive</assistant>
  </module>
  <module name="e14">
    <user>The battery is empty after an hour.</user>
    <assistant>Negative</assistant>
  </module>
  <module name="e15">
    <user>Best coat that I ever bought, warm and light.</user>
    <assistant>Positive</assistant>
  </module>
  <module name="e16">
    <user>Half of the parts were missing from the box.</user>
    <assistant>Negative</assistant>
  </module>
  <module name="e17">
    <user>The guide knew every stone of the castle.</user>
    <assistant>Positive</assistant>
  </module>
  <module name="e18">
    <user>The film was long, loud and without a story.</user>
    <assistant>Negative</assistant>
  </module>
  <module name="e19">
    <user>Our new neighbours brought us a cake.</user>
    <assistant>Positive</assistant>
  </module>
  <module name="e20">
    <user>Nobody picked up the phone all week.</user>
    <assistant>Negative</assistant>
  </module>
  <module name="e21">
    <user>The course was clear, short and useful.</user>
    <assistant>Positive</assistant>
  </module>
  <module name="e22">
    <user>The shoes hurt from the first step.</user>
    <assistant>Negative</assistant>
  </module>
  <module name="e23">
    <user>Everything arrived a day early, well packed.</user>
    <assistant>Positive</assistant>
  </module>
  <module name="e24">
    <user>My order was lost, and then it was lost again.</user>
    <assistant>Negative</assistant>
  </module>
  <module name="e25">
    <user>The garden smelled of roses all summer.</user>
    <assistant>Positive</assistant>
  </module>
  <module name="e26">
    <user>The paint came off in the first rain.</user>
    <assistant>Negative</assistant>
  </module>
  <module name="e27">
    <user>He answered every question with a smile.</user>
    <assistant>Positive</assistant>
  </module>
  <module name="e28">
    <user>The lecture was so dull that I fell asleep.</user>
    <assistant>Negative</assistant>
  </module>
  <module name="e29">
    <user>I would watch this film again tomorrow.</user>
    <assistant>Positive</assistant>
  </module>
  <module name="e30">
    <user>They charged me twice and never said sorry.</user>
    <assistant>Negative</assistant>
  </module>
</schema>
