
"use strict";
// Shows the samples of one part, or those that hold the given words. Without a script all of them are there to be opened.
(function () {
  var filter = document.getElementById("filter");
  if (!filter) { return; }
  var section = document.getElementById("filter-section");
  var words = document.getElementById("filter-words");
  var count = document.getElementById("filter-count");
  var groups = Array.prototype.slice.call(document.querySelectorAll(".samples"));

  function show() {
    var wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    var shown = 0;
    groups.forEach(function (group) {
      var right = !section.value || group.dataset.section === section.value;
      var inGroup = 0;
      Array.prototype.forEach.call(group.querySelectorAll(".sample"), function (sample) {
        var text = sample.textContent.toLowerCase();
        var found = right && wanted.every(function (word) { return text.indexOf(word) >= 0; });
        sample.hidden = !found;
        inGroup += found ? 1 : 0;
      });
      group.hidden = !inGroup;
      shown += inGroup;
    });
    count.textContent = shown + (shown === 1 ? " sample" : " samples");
  }

  section.addEventListener("change", show);
  words.addEventListener("input", show);
  filter.hidden = false;
  show();
})();
