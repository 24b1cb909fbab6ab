"""The lesson: eight questions, each guessed, tried, seen and explained, on one running object.

How a step asks, answers and shows:

- `plan.py` names the step, its guesses and its controls; its words lie in `locales/*/lesson.json` under its name.
- `measured.py` brings what it is answered from, plain values for JSON: stored ones (`stored.py`, of the built-in model
  where nobody chose anything else) or measured ones, which all visitors share. `wanda_core/report/lesson/` says what
  stands in them.
- `weights.py`, `sentences.py`, `consequences.py` turn these values into an `Answer` (`answers.py`): the guesses that
  they bear out, the finding, the explanation, the picture, the numbers. `Answer.data` holds the values themselves, so
  whatever is drawn or asked beside a step draws and asks from the same. No model is needed for that.
- `layout.py` places a step: the map at the side, the question, the guess, the controls, then what comes of it;
  `tab.py` wires it. `LessonStep.show` returns everything an answer changes on the page: what stands beside a step is
  told of its answer there. A run (`Run`) is a visitor's answers by step, as `Record`; the browser keeps what was
  guessed and chosen (`kept.py`), so a page that is loaded anew, in another language too, has them again.
- `figures/` are pure functions from values and words to HTML and SVG, in the colours of `assets/lesson.css`.
"""
