"""Answers that outlive their link: kept by the worker that makes them, resumed from any other."""

from core.inference.answers.answer import Answer, AnswerEnd, Listener

__all__ = ["Answer", "AnswerEnd", "Listener"]
