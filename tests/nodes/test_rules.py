"""The pure rules: turns, ejection, rise and fall, sources, refusals."""

from __future__ import annotations

import pytest

from core.errors import NodeRefused
from core.nodes.ejection import Ejection
from core.nodes.health import Report, after_bad, after_good
from core.nodes.node import Node, NodeKind
from core.nodes.node_url import parse
from core.nodes.selection import RoundRobin
from core.nodes.sources import Listing, StaticNodes, merged
from core.nodes.transport.refusal import refusal

A, B, C = (Node(f"http://{name}") for name in "abc")
REPORT = Report(kind=NodeKind.AGENT, models={"m": "M"}, address="0xaa", latency_ms=2.5)


class TestRoundRobin:
    def test_turns_are_kept_while_nodes_come_and_go(self) -> None:
        turns = RoundRobin()

        assert [turns.select("m", [A, B, C]) for _ in range(4)] == [A, B, C, A]
        assert [turns.select("m", [A, C]) for _ in range(3)] == [C, A, C]
        assert [turns.select("m", [A, B, C]) for _ in range(4)] == [B, A, C, B]
        assert turns.select("m", []) is None

    def test_each_model_has_its_own_turns(self) -> None:
        turns = RoundRobin()

        assert [turns.select(model, [A, B]) for model in ("one", "two", "one", "two")] == [A, A, B, B]


class TestEjection:
    def test_only_failures_in_a_row_put_a_node_out(self) -> None:
        ejection = Ejection(after=3, base_s=10, most_s=25)
        for _ in range(2):
            ejection.failed("a", 0)
        ejection.succeeded("a")

        assert [ejection.failed("a", 0) for _ in range(3)] == [False, False, True]
        assert ejection.is_out("a", 9.9)
        assert not ejection.is_out("a", 10)
        assert not ejection.is_out("b", 0)

    def test_each_time_is_longer_up_to_the_most(self) -> None:
        ejection = Ejection(after=2, base_s=10, most_s=25)
        now, times = 0.0, []
        ejection.failed("a", now)
        for _ in range(4):
            ejection.failed("a", now)
            began = now
            while ejection.is_out("a", now):
                now += 1
            times.append(now - began)

        assert times == [10, 20, 25, 25]

    def test_failures_of_requests_that_were_under_way_do_not_prolong_it(self) -> None:
        ejection = Ejection(after=1, base_s=10)
        assert ejection.failed("a", 0)
        assert not ejection.failed("a", 5)

        assert not ejection.is_out("a", 10)

    def test_a_good_answer_forgets_everything(self) -> None:
        ejection = Ejection(after=1, base_s=10)
        ejection.failed("a", 0)
        ejection.failed("a", 10)
        ejection.succeeded("a")
        ejection.failed("a", 100)

        assert not ejection.is_out("a", 110)


class TestHealth:
    def test_one_good_probe_is_enough_at_first(self) -> None:
        node = after_good(Node("http://a"), REPORT, 7.0)

        assert node == Node(
            "http://a",
            address="0xaa",
            kind=NodeKind.AGENT,
            models={"m": "M"},
            online=True,
            successes=1,
            last_check=7.0,
            last_seen=7.0,
            latency_ms=2.5,
        )

    def test_three_bad_probes_in_a_row_take_it_offline(self) -> None:
        node = after_good(Node("http://a"), REPORT, 0)
        states = []
        for outcome in "bbgbbbb":
            node = after_good(node, REPORT, 0) if outcome == "g" else after_bad(node, "no connection", 0)
            states.append(node.online)

        assert states == [True, True, True, True, True, False, False]
        assert (node.failures, node.problem) == (4, "no connection")

    def test_after_a_fall_two_good_probes_bring_it_back(self) -> None:
        node = after_good(Node("http://a"), REPORT, 0)
        for _ in range(3):
            node = after_bad(node, "x", 0)
        states = []
        for outcome in "gbgg":
            node = after_good(node, REPORT, 0) if outcome == "g" else after_bad(node, "x", 0)
            states.append(node.online)

        assert states == [False, False, False, True]
        assert node.problem == ""

    def test_a_node_that_says_it_is_not_ready_is_believed_at_once(self) -> None:
        node = after_bad(after_good(Node("http://a"), REPORT, 0), "it is loading", 1, certain=True)

        assert not node.online

    def test_a_node_that_was_never_good_stays_offline(self) -> None:
        assert not after_bad(Node("http://a"), "x", 0).online

    def test_the_sources_word_on_the_owner_comes_before_the_nodes(self) -> None:
        assert after_good(Node("http://a", address="0xbb"), REPORT, 0).address == "0xbb"


class TestSources:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ("http://A.example:80/", "http://a.example"),
            ("https://a:443/base/?x=1#y", "https://a/base"),
            ("http://user:secret@10.0.0.1:31331", "http://10.0.0.1:31331"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("http://münchen.example/길", "http://xn--mnchen-3ya.example/%EA%B8%B8"),
        ],
    )
    def test_a_url_has_one_spelling(self, given: str, expected: str) -> None:
        assert str(parse(given)) == expected

    @pytest.mark.asyncio
    async def test_the_same_node_counts_once(self) -> None:
        nodes = StaticNodes(["http://a:1", "http://b:1", "http://A:1/"])

        assert await nodes.listed() == [Listing("http://a:1"), Listing("http://b:1")]

    def test_a_known_owner_wins_over_an_unknown_one(self) -> None:
        owned, other = Listing("http://a", "0xaa"), Listing("http://a", "0xbb")

        assert merged([Listing("http://a"), owned, other]) == [owned]


class TestRefusal:
    @pytest.mark.parametrize(
        ("body", "said"),
        [
            (b'{"detail": "max_new_tokens  is\\n too large"}', "max_new_tokens is too large"),
            (
                b'{"detail": [{"loc": ["body", "parameters", "top_p"], "msg": "too low"}]}',
                "top_p: too low",
            ),
            (b'{"error": {"code": 400, "message": "bad role"}}', "bad role"),
            (b'{"error": "bad role"}', "bad role"),
            (b'{"detail": "see /opt/app/main.py or http://10.0.0.1/x for org/model"}', "see … or … for org/model"),
            (b'{"detail": "' + b"x" * 5000 + b'"}', "x" * 200),
            (b'{"detail": "a\\u0000\\u001b[31mb\\u2028c"}', "a [31mb c"),
        ],
    )
    def test_it_says_the_reason_in_one_clean_line(self, body: bytes, said: str) -> None:
        assert refusal(body).message == f"The node refused the request: {said}"

    @pytest.mark.parametrize(
        "body", [b"", b"<html>no</html>", b"[]", b'{"detail": []}', b'{"detail": {"a": 1}}', b"\xff", b"[" * 50_000]
    )
    def test_a_page_of_the_nodes_own_is_never_passed_on(self, body: bytes) -> None:
        assert refusal(body).message == "The node refused the request."

    @pytest.mark.parametrize(
        "body",
        [
            b'{"error": {"message": "the request exceeds the available context size. try increasing it"}}',
            b'{"error": {"message": "This model\'s maximum context length is 2048 tokens."}}',
            b'{"error": {"message": "no", "type": "exceed_context_size_error"}}',
        ],
    )
    def test_a_full_context_is_told_in_our_words(self, body: bytes) -> None:
        error = refusal(body)

        assert isinstance(error, NodeRefused)
        assert error.text == "The prompt and the answer do not fit into the model's context: shorten the prompt."
