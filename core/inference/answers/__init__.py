"""Answers that outlive their link: kept by the worker that makes them, resumed from any other."""

from core.inference.answers.answer import Answer, AnswerEnd, Listener
from core.inference.answers.answers import Answers, open_answers

__all__ = ["Answer", "AnswerEnd", "Answers", "Listener", "open_answers"]
