"""
Every Redis key of the gateway, with its type and its life.

All carry the one hash tag {plumise}: a Redis Cluster keeps them in one slot, so that each script may touch
several of them at once.

| key | type | life | what |
|---|---|---|---|
| {plumise}:nonces:<address> | hash nonce → "issued_ms\\|expires_ms\\|origin" | 5 min from the last | open challenges |
| {plumise}:revoked:<jti> | string "1" | until the token's exp | tokens that were logged out |
| {plumise}:quota:<address> | zset request id → admitted ms | the window | the Free requests of the last window |
| {plumise}:open | zset "address request id" → lease end ms | – | admitted, nothing delivered yet |
| {plumise}:usage:<request id> | string | 1 day | this answer is already counted (commits are idempotent) |
| {plumise}:totals | hash | – | answers and tokens served, by the whole fleet, since ever |
| {plumise}:totals:<node> | hash | – | the same of one node, by its URL |
| {plumise}:accounts | hash account → answers | – | the accounts: "own", wallets of nodes, "nobody" |
| {plumise}:account:<account> | hash | – | what is to be reported to the Oracle, since ever |
| {plumise}:account:<account>:told | hash | – | how far the Oracle has been told of it |
| {plumise}:reports | hash agent → "ms\\|JSON" | – | the last report of each agent, at most 10,000 |
| {plumise}:reports:at | zset agent → unix ms | – | when it came |
| {plumise}:nodes | string, JSON | 5 min | the last snapshot of the nodes, their health and how they fare |
| {plumise}:nodes:version | string | 5 min | of that snapshot; another one each time |
| {plumise}:leader | string, a process' name | 6 s | who leads: probes, discovers, reports |
| {plumise}:fence | string, a number | – | of the last lead; the leader's scripts refuse to write for an earlier one |
| {plumise}:oracle_nodes | string, JSON list | 30 days | the nodes that the Oracle names, or named last |
| {plumise}:background | string, unix seconds | 60 s | the background worker's heartbeat |
| {plumise}:touched | string "1" | 60 s | that Redis takes writes; /ready asks |
| {plumise}:agents | hash address → JSON | – | connected agents, each with the worker that holds its socket |
| {plumise}:agents:until | zset address → unix ms | – | until when that worker vouches for each |
| {plumise}:used:<hash> | string "1" | 11 min | a signature that was accepted, and is not accepted again |
| {plumise}:tier:<address> | hash credit, read_at, fresh_until | 66 min | what the payment contract said of a wallet |
| {plumise}:tier:<address>:reading | string, a token | 5 s | somebody asks the contract now |
| {plumise}:tiers:block | string, a number | 1 day | the block up to which payments were heard of |
| {plumise}:kept:<caller>:<key> | string, JSON | 1 day | the answer to a request with an Idempotency-Key |
| {plumise}:claim:<caller>:<key> | string "token fingerprint" | the nodes' time and 1 min | that request is under way |
| {plumise}:credit:<address> | hash cum, settled, … (tokens), debt | – | what a wallet used and paid |
| {plumise}:charge:<request id> | hash user, state, reserved, tokens, … | 30 days from its end | one paid request |
| {plumise}:charges:<address> | zset request id → cum right after it | – | what a wallet was charged for |
| {plumise}:settlements:<address> | zset JSON → to_cum | – | the newest 1,000 payments of a wallet on the chain |
| {plumise}:reservations | zset "address request id" → lease end ms | – | paid requests under way |
| {plumise}:outstanding | zset address → unix ms | – | who owes, and since when |
| {plumise}:ledger | string "chain id:contract" | – | the contract that these credits are settled with |
| {plumise}:journal:epoch | string, a token | – | of the settler's journal; a recovery begins another one |
| {plumise}:journal:run | string | – | the run_id of the Redis that it is written under |
| {plumise}:journal:next | string, a number | – | the next nonce of the gateway's account |
| {plumise}:journal:open | zset nonce → nonce | – | transactions that are not final |
| {plumise}:journal:account | string "chain id:address" | – | the account whose nonces these are |
| {plumise}:journal:tx:<nonce> | hash | – | what a transaction settles |
| {plumise}:journal:tx:<nonce>:attempts | list of JSON | – | its signed forms, each written before it is sent |
| {plumise}:journal:high | string, a number | – | the nonce from which on no life of the journal can have signed |
| {plumise}:settled | set of addresses | – | everybody who was ever settled |
| {plumise}:frozen | set of addresses | – | of whom the chain says something else than the ledger |
| {plumise}:settlement:leader | string, a process' name | 6 s | which settler works |
| {plumise}:settlement:fence | string, a number | – | of its lead |
| {plumise}:settler | string, JSON | 60 s | how the settler is |
| {plumise}:receipt:<request id> | hash digest, signature, signer | as the charge | a signed receipt |

Topics of the bus (pub/sub; nothing of them is kept):

| topic | what |
|---|---|
| {plumise}:to:<worker>:<purpose> | messages for one worker |
| {plumise}:all:<purpose> | messages for all processes |
"""

from __future__ import annotations

PREFIX = "{plumise}"

OPEN_REQUESTS = f"{PREFIX}:open"
TOTALS = f"{PREFIX}:totals"
NODES = f"{PREFIX}:nodes"
NODES_VERSION = f"{NODES}:version"
LEADER = f"{PREFIX}:leader"
FENCE = f"{PREFIX}:fence"
ORACLE_NODES = f"{PREFIX}:oracle_nodes"
BACKGROUND = f"{PREFIX}:background"
TOUCHED = f"{PREFIX}:touched"
ACCOUNTS = f"{PREFIX}:accounts"
REPORTS = f"{PREFIX}:reports"
REPORTS_AT = f"{REPORTS}:at"
OWN, NOBODY = "own", "nobody"  # accounts: of the gateway's wallet, and of nodes whose wallet is not known
AGENTS = f"{PREFIX}:agents"
AGENTS_UNTIL = f"{AGENTS}:until"
TIERS_BLOCK = f"{PREFIX}:tiers:block"
RESERVATIONS = f"{PREFIX}:reservations"
OUTSTANDING = f"{PREFIX}:outstanding"
LEDGER = f"{PREFIX}:ledger"
JOURNAL_EPOCH = f"{PREFIX}:journal:epoch"
JOURNAL_RUN = f"{PREFIX}:journal:run"
JOURNAL_NEXT = f"{PREFIX}:journal:next"
JOURNAL_OPEN = f"{PREFIX}:journal:open"
JOURNAL_ACCOUNT = f"{PREFIX}:journal:account"
JOURNAL_HIGH = f"{PREFIX}:journal:high"
SETTLED = f"{PREFIX}:settled"
FROZEN = f"{PREFIX}:frozen"
SETTLEMENT_LEADER = f"{PREFIX}:settlement:leader"
SETTLEMENT_FENCE = f"{PREFIX}:settlement:fence"
SETTLER = f"{PREFIX}:settler"


def nonces(address: str) -> str:
    """Open sign-in challenges of a lower-case address."""
    return f"{PREFIX}:nonces:{address}"


def revoked(token_id: str) -> str:
    """Whether the token with this jti was logged out."""
    return f"{PREFIX}:revoked:{token_id}"


def quota(address: str) -> str:
    """The Free requests of a lower-case address."""
    return f"{PREFIX}:quota:{address}"


def open_request(address: str, request_id: str) -> str:
    """The member of OPEN_REQUESTS; the address is lower-case, and neither part has a space."""
    return f"{address} {request_id}"


def usage(request_id: str) -> str:
    """The mark that this answer is counted."""
    return f"{PREFIX}:usage:{request_id}"


def node_totals(url: str) -> str:
    """What a node served."""
    return f"{TOTALS}:{url}"


def used_signature(digest: str) -> str:
    """The mark that a signature with this SHA-256 was accepted."""
    return f"{PREFIX}:used:{digest}"


def account(name: str) -> str:
    """What was served for OWN, NOBODY, or a node's lower-case wallet."""
    return f"{PREFIX}:account:{name}"


def account_told(name: str) -> str:
    """How far the Oracle knows it."""
    return f"{account(name)}:told"


def tier(address: str) -> str:
    """What is known of a lower-case address' tier."""
    return f"{PREFIX}:tier:{address}"


def tier_reading(address: str) -> str:
    """The mark that somebody asks for it."""
    return f"{tier(address)}:reading"


def kept_answer(subject: str, key: str) -> str:
    """What was answered to a caller's request with an Idempotency-Key."""
    return f"{PREFIX}:kept:{subject}:{key}"


def claim(subject: str, key: str) -> str:
    """The mark that a caller's request with an Idempotency-Key is under way."""
    return f"{PREFIX}:claim:{subject}:{key}"


def credit(address: str) -> str:
    """What a lower-case address used and paid."""
    return f"{PREFIX}:credit:{address}"


def charge(request_id: str) -> str:
    """A paid request."""
    return f"{PREFIX}:charge:{request_id}"


def charges(address: str) -> str:
    """The paid requests of a lower-case address."""
    return f"{PREFIX}:charges:{address}"


def settlements(address: str) -> str:
    """The payments of a lower-case address on the chain."""
    return f"{PREFIX}:settlements:{address}"


def journal_tx(nonce: int | str) -> str:
    """A transaction of the settler."""
    return f"{PREFIX}:journal:tx:{nonce}"


def journal_attempts(nonce: int) -> str:
    """Its signed forms."""
    return f"{journal_tx(nonce)}:attempts"


def receipt(request_id: str) -> str:
    """The receipt of a charge, once it was signed."""
    return f"{PREFIX}:receipt:{request_id}"


def to_worker(worker_id: str, purpose: str) -> str:
    """The topic of one worker."""
    return f"{PREFIX}:to:{worker_id}:{purpose}"


def to_all(purpose: str) -> str:
    """A topic that all processes hear which care for it."""
    return f"{PREFIX}:all:{purpose}"
