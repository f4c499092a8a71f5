<!-- Few-shot examples of two classifiers: a prompt chooses one, and both start at the same position. -->
<schema name="classify">
  <system>Classify each text.</system>
  <union>
    <module name="mood">
      <user>I love this phone, the screen is wonderful.</user>
      <assistant>Label: positive</assistant>
      <user>The food was cold and the waiter was rude.</user>
      <assistant>Label: negative</assistant>
      <user>What a great day, we had so much fun!</user>
      <assistant>Label: positive</assistant>
      <user>It broke after two days and nobody helped me.</user>
      <assistant>Label: negative</assistant>
      <user>The staff was kind and the room had a lovely view.</user>
      <assistant>Label: positive</assistant>
      <user>I want my money back, this is the worst bag that I ever had.</user>
      <assistant>Label: negative</assistant>
      <user>My children read this book three times and laughed each time.</user>
      <assistant>Label: positive</assistant>
      <user>The train was late, crowded and far too hot.</user>
      <assistant>Label: negative</assistant>
    </module>
    <module name="ticket">
      <user>I was charged twice for the same month.</user>
      <assistant>Label: billing</assistant>
      <user>The app closes as soon as I open it.</user>
      <assistant>Label: bug</assistant>
      <user>Please send the invoice to our new address.</user>
      <assistant>Label: billing</assistant>
      <user>The search finds nothing since the last update.</user>
      <assistant>Label: bug</assistant>
      <user>Why is the price on my card higher than on the page?</user>
      <assistant>Label: billing</assistant>
      <user>The button at the bottom does not react.</user>
      <assistant>Label: bug</assistant>
      <user>I would like to pay by bank transfer.</user>
      <assistant>Label: billing</assistant>
      <user>An error appears when I upload a photo.</user>
      <assistant>Label: bug</assistant>
    </module>
  </union>
</schema>
