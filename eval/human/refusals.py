"""Why a request of a rater gets nothing, in words for the rater. What is refused in one place only is said there, in eval.human.app."""

from eval.human.pages import link


class Refused(Exception):  # noqa: N818 - it ends in a page, and is no error of ours
    """Ends in a page that says why, with one way forward."""

    def __init__(
        self,
        status: int,
        title: str,
        words: str,
        forward: str = "./",
        forward_words: str = "To the start",
        wait: float = 0,
    ) -> None:
        """wait: seconds, for Retry-After."""
        super().__init__(title)
        self.status, self.title, self.words, self.wait = status, title, words, wait
        self.forward, self.forward_words = forward, forward_words


def incomplete() -> Refused:
    return Refused(
        422,
        "This link is not complete",
        "The id that your panel adds to it is missing, or none: a place for it may have been left unfilled. Open the study from the panel "
        "again, and tell the panel if this page comes back.",
    )


def final(token: str) -> Refused:
    return Refused(
        409,
        "You have finished the study",
        "Your answers are as they were when you finished, and can no longer be changed.",
        link("thanks", token=token),
        "To the last page",
    )


def too_many(wait: float, forward: str) -> Refused:
    words = (
        f"There were too many requests in a short time. Wait {int(wait) + 1} seconds, then reload this page. Nothing that was saved is "
        "lost."
    )
    return Refused(429, "Too many requests", words, forward, "To the start", wait)


def no_storage(token: str) -> Refused:
    return Refused(
        503,
        "Not possible just now",
        "The study cannot be reached just now, and what you sent last may not be saved. What was saved before is not lost. Wait a moment, "
        "then reload this page. If your browser asks whether to send the form again, say yes: sent twice, an answer is still one answer.",
        link("./", token=token),
        "To the start",
        wait=10,
    )
