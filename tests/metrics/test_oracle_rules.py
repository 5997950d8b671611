"""The test Oracle answers and books as the true one was recorded to do; so what it accepts of ours is right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from core.metrics.counters import Report
from core.oracle.registration import signed_registration
from core.oracle.reports import signed_text
from core.wallet import Signer
from tests.fakes.oracle_metrics import CAP, INTERNAL, REPORT, MetricsLedger

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent.parent / "vectors" / "oracle_metrics.json").read_text())
KEY = "0x" + "ab" * 32
WALLET = "0xe239cdc5fbe977a8a141B72194D3CF8c41bC5BC6"


class Now:
    """The Oracle's clock."""

    def __init__(self) -> None:
        self.seconds = 1_700_000_000.0

    def __call__(self) -> float:
        return self.seconds


class TestRecords:
    def test_every_recorded_report_is_answered_and_booked_as_it_was(self) -> None:
        now = Now()
        oracle = MetricsLedger(RECORDED["key"], set(RECORDED["registered"]), now)
        for case in RECORDED["cases"]:
            if "register" in case:
                oracle.registered.add(case["register"])
                continue
            now.seconds = case["now"]
            status, answer = oracle.post(case["path"], json.dumps(case["body"]).encode(), {"x-api-key": case["key"]})

            assert (case["name"], status, answer["message"]) == (case["name"], case["status"], case["message"])

        for wallet, expected in RECORDED["booked"].items():
            assert oracle.metrics_of(wallet) | expected == oracle.metrics_of(wallet)


class TestSignatures:
    def test_a_report_is_signed_as_the_recorded_one(self) -> None:
        text = signed_text(Report(WALLET, 1_700_000_000, 12_345, 3, 1.5))

        assert text == '{"agent":"' + WALLET + '","processed_tokens":12345,"timestamp":1700000000}'
        assert Signer(KEY).sign_text(text) == (
            "0xad95f8f9d99d44d89c09f7b04ced95aeed7932b1e3e715be51127183bd153852"
            "55a28ef1113995340260ce3ccb6fbd54b8c9dd251bce5fcf67c5b7ae83c57ea11b"
        )

    def test_a_registration_is_signed_as_the_recorded_one(self) -> None:
        signer = Signer(KEY)
        signer.address = WALLET

        assert signed_registration(signer, "http://10.0.0.9:31331", 1_700_000_000)["signature"] == (
            "0xd677df2f3728c8b2c1c9fc5626a70264aecae48d5d02b1b5f2211567c7be880a"
            "21dc886fd01ee21b9585d5103a270c845ef5caede573c549b3b536e19d3480581c"
        )

    def test_the_key_shows_in_no_repr(self) -> None:
        assert "ab" * 32 not in repr(Signer(KEY))


class TestBooking:
    """Rules that were measured besides the recorded reports."""

    def report(self, oracle: MetricsLedger, tokens: float, timestamp: float, requests: int = 1) -> tuple[int, Any]:
        body = {
            "wallet": WALLET,
            "tokensProcessed": tokens,
            "avgLatencyMs": 100,
            "requestCount": requests,
            "uptimeSeconds": 1,
            "timestamp": timestamp,
            "signature": "internal",
        }
        status, answer = oracle.post(INTERNAL, json.dumps(body).encode(), {"x-api-key": "k"})
        return status, answer["message"]

    def test_two_reporters_of_one_wallet_are_booked_again_and_again(self) -> None:
        oracle = MetricsLedger("k", {WALLET.lower()}, Now())
        for turn, tokens in enumerate([1000, 100, 1010, 110, 1020, 120], 1):
            self.report(oracle, tokens, turn)

        assert oracle.booked(WALLET)[0] == 3150

    def test_a_zero_begins_a_new_count(self) -> None:
        oracle = MetricsLedger("k", {WALLET.lower()}, Now())
        for turn, tokens in enumerate([500, 0, 900], 1):
            self.report(oracle, tokens, turn)

        assert oracle.booked(WALLET)[0] == 1400

    def test_an_honest_mean_of_100_ms_is_stored_as_more_and_more(self) -> None:
        oracle = MetricsLedger("k", {WALLET.lower()}, Now())
        means = []
        for turn in range(1, 6):
            self.report(oracle, turn, turn, requests=turn)
            means.append(oracle.metrics_of(WALLET)["avgLatencyMs"])

        assert means == [100, 150, 200, 250, 300]

    def test_a_restart_in_a_new_epoch_books_the_whole_count_again(self) -> None:
        oracle = MetricsLedger("k", {WALLET.lower()}, Now())
        self.report(oracle, 500, 1)
        oracle.restart()
        self.report(oracle, 600, 2)
        assert oracle.booked(WALLET)[0] == 600

        oracle.restart(epoch_is_new=True)
        self.report(oracle, 700, 3)
        assert oracle.booked(WALLET)[0] == 1300

    def test_a_failing_database_books_nothing(self) -> None:
        oracle = MetricsLedger("k", {WALLET.lower()}, Now(), failing=True)

        assert self.report(oracle, 5, 1) == (400, "Internal server error")
        assert self.report(oracle, CAP + 1, 1) == (400, "Token count exceeds maximum allowed")
        assert oracle.booked(WALLET) == (0, 0)

    def test_floats_are_signed_as_javascript_writes_them(self) -> None:
        now = Now()
        oracle, signer = MetricsLedger("k", {WALLET.lower()}, now), Signer(KEY)
        text = f'{{"agent":"{WALLET}","processed_tokens":120,"timestamp":1700000000}}'
        body = {
            "wallet": WALLET,
            "tokensProcessed": 120.0,
            "avgLatencyMs": 1,
            "requestCount": 1,
            "uptimeSeconds": 1,
            "timestamp": 1_700_000_000,
            "signature": signer.sign_text(text),
        }

        assert oracle.post(REPORT, json.dumps(body).encode())[0] == 201
