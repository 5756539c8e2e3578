// Comfort only: without this script the study works the same. It counts characters, typed and pasted, keeps unsaved text in this browser
// until it is saved, stops a double click, and adds keys.
(function () {
  "use strict";
  document.documentElement.classList.add("scripted");

  // A browser may forbid storage, in a frame for instance, or have none left.
  function kept(work) {
    try { return work(window.localStorage); } catch (error) { return null; }
  }
  function forget(key) {
    if (key) { kept(function (storage) { storage.removeItem(key); }); }
  }
  function length(text) { return Array.from(text.trim()).length; }

  var errors = document.querySelector(".error[autofocus]");
  // A browser that does not heed autofocus on a paragraph.
  if (errors) { window.addEventListener("load", function () { setTimeout(function () { errors.focus(); }, 0); }); }

  var done = document.getElementById("done");
  if (done) {
    kept(function (storage) {
      Object.keys(storage).forEach(function (key) {
        if (key.indexOf(done.dataset.drafts) === 0) { storage.removeItem(key); }
      });
    });
  }
  var saved = document.querySelector("[data-saved]");
  if (saved) { forget(saved.dataset.saved); }

  document.querySelectorAll("form[method=post]").forEach(function (form) {
    var button = form.querySelector("button");
    var words = button.textContent;
    var sent = false;
    function again() {
      sent = false;
      button.textContent = words;
      button.removeAttribute("aria-disabled");
    }
    form.addEventListener("submit", function (event) {
      if (sent) { event.preventDefault(); return; }
      sent = true;
      button.textContent = "Saving…";
      button.setAttribute("aria-disabled", "true");
      setTimeout(again, 8000);  // the request may have failed, and the page stayed
    });
    window.addEventListener("pageshow", function (event) { if (event.persisted) { again(); } });
  });

  var form = document.getElementById("form");
  if (!form) { return; }
  var reason = document.getElementById("reason");
  var pasted = document.getElementById("pasted");
  var count = document.getElementById("count");
  var spoken = document.getElementById("spoken");
  var minimum = Number(form.dataset.minimum);
  var most = Number(form.dataset.most);
  var key = form.dataset.draft;
  var radios = Array.from(form.querySelectorAll("input[type=radio]"));
  function choice() { return (radios.find(function (radio) { return radio.checked; }) || {}).value || ""; }

  var timer = 0;
  function show() {
    var written = length(reason.value);
    var over = written > most;
    count.textContent = over ? written + " characters, " + (written - most) + " too many"
      : written < minimum ? written + " of at least " + minimum + " characters" : written + " characters";
    count.classList.toggle("enough", written >= minimum && !over);
    count.classList.toggle("over", over);
    if (written >= minimum && !over) { reason.removeAttribute("aria-invalid"); }
    clearTimeout(timer);
    timer = setTimeout(function () { spoken.textContent = count.textContent; }, 1500);  // after a pause, not at every key
  }
  function keep() {
    kept(function (storage) {
      storage.setItem(key, JSON.stringify({reason: reason.value, choice: choice(), pasted: pasted.value}));
    });
  }

  var draft = kept(function (storage) { return JSON.parse(storage.getItem(key)); });
  if (draft && typeof draft.reason === "string" && !form.dataset.unsaved) {
    if (draft.reason.trim() === reason.value.trim() && (draft.choice || "") === choice()) {
      forget(key);
    } else {
      reason.value = draft.reason;
      pasted.value = String(Math.max(Number(pasted.value) || 0, Number(draft.pasted) || 0));
      radios.forEach(function (radio) { if (radio.value === draft.choice) { radio.checked = true; } });
      document.getElementById("restored").hidden = !draft.reason.trim();
    }
  }
  show();
  clearTimeout(timer);

  function more(text) { pasted.value = String((Number(pasted.value) || 0) + Array.from(text).length); }
  reason.addEventListener("paste", function (event) {
    if (event.clipboardData) { more(event.clipboardData.getData("text")); }
  });
  reason.addEventListener("drop", function (event) {
    if (event.dataTransfer) { more(event.dataTransfer.getData("text")); }
  });
  reason.addEventListener("input", function () { show(); keep(); });
  radios.forEach(function (radio) { radio.addEventListener("change", keep); });

  // Letters only while the answers have the focus, so that they never get in the way of a screen reader or of typing.
  document.getElementById("answers").addEventListener("keydown", function (event) {
    if (event.ctrlKey || event.altKey || event.metaKey) { return; }
    var radio = radios.find(function (one) { return one.value === event.key.toUpperCase(); });
    if (radio) {
      event.preventDefault();
      radio.checked = true;
      radio.focus();
      keep();
    }
  });
  reason.addEventListener("keydown", function (event) {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      form.requestSubmit(document.getElementById("save"));
    }
  });
})();
