from eval.explore.word_diff import LEAST_SHARED, MOST_TOKENS, word_difference


def changed(pieces):
    return [piece.text for piece in pieces if piece.changed]


def whole(pieces):
    return "".join(piece.text for piece in pieces)


def test_only_the_words_that_differ_are_marked():
    found = word_difference("I like red cars very much, really.", "I like blue bikes very much, really.")
    assert changed(found.before) == ["red cars"]
    assert changed(found.after) == ["blue bikes"]
    assert found.marked
    assert found.shared is not None
    assert 0.5 < found.shared < 1


def test_the_pieces_are_the_texts():
    before, after = "Yes.\n\n* one  two\n* three", "No!\n* one two\n\n* three, four\u2014five"
    found = word_difference(before, after)
    assert (whole(found.before), whole(found.after)) == (before, after)


def test_a_word_is_the_same_with_another_mark_behind_it_or_another_case():
    found = word_difference("You should save money. Really.", "you should save money, really.")
    assert changed(found.before) == ["."]
    assert changed(found.after) == [","]


def test_a_lonely_word_between_changes_does_not_tear_them_apart():
    start, end = "Here is what everybody ought to know about it: ", " That is all there is to say about it today."
    found = word_difference(
        start + "grow your own fruit the whole summer long." + end,
        start + "trust old books and the radio news instead!" + end,
    )
    assert len(changed(found.before)) == len(changed(found.after)) == 1


def test_texts_with_little_in_common_are_left_plain():
    found = word_difference("one two three four five", "six seven eight nine five")
    assert found.shared is not None
    assert found.shared < LEAST_SHARED
    assert not found.marked
    assert changed(found.after) == []


def test_texts_that_are_too_long_are_left_plain():
    text = "word " * (MOST_TOKENS + 1)
    found = word_difference(text, text)
    assert (found.marked, found.shared) == (False, None)


def test_texts_of_one_word_again_and_again_are_left_plain():
    """Compared, these would take 8 s."""
    found = word_difference("w " * 1000, " ".join(f"w x{number}" for number in range(500)))
    assert (found.marked, found.shared) == (False, None)


def test_the_same_and_the_empty():
    assert word_difference("", "").shared == 1
    assert changed(word_difference("a b", "a b").after) == []
    assert changed(word_difference("", "a").after) == []
