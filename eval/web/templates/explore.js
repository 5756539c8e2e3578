// Nothing here is needed to read the pages: keys for who goes through many rows, and a choice that shows at once.
(function () {
  "use strict";
  function typing(target) { return target.closest && target.closest("input, select, textarea"); }
  document.addEventListener("keydown", function (event) {
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) { return; }
    var link = { ArrowLeft: "prev", p: "prev", ArrowRight: "next", n: "next" }[event.key];
    if (link) {
      // A wide table is scrolled with the same keys.
      if (event.target.closest && event.target.closest(".scroll")) { return; }
      var found = document.querySelector('a[rel="' + link + '"]');
      if (found) { found.click(); }
    } else if (event.key === "/") {
      var field = document.querySelector("main input[type=search]") || document.getElementById("find");
      if (field) { event.preventDefault(); field.focus(); }
    }
  });
  // An address without the filters that are not set can be read and passed on.
  document.querySelectorAll("form").forEach(function (form) {
    form.addEventListener("submit", function () {
      form.querySelectorAll("input, select").forEach(function (field) { if (field.value === "") { field.disabled = true; } });
      window.setTimeout(function () {
        form.querySelectorAll("input, select").forEach(function (field) { field.disabled = false; });
      }, 0);
    });
  });
})();
