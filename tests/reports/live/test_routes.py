"""Every route of the live page: what it answers, and what it refuses."""

import base64
import io
import json
import threading
import time
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from dmzcli.reports.live import routes
from dmzcli.reports.live.asked import bits_of, code_of
from dmzcli.reports.live.desk import WAITING

CODE, FREE = "01100101", "0" * 8
DECODE = {"page": "a", "codes": [CODE], "noises": [0, 1, 2, 3], "steps": 3, "sampler": "ddim"}
GOOD = {
    "row": {"row": 3},
    "decode": DECODE,
    "read": {"code": CODE},
    "neighbors": {"code": CODE, "count": 5},
    "draw": {"prior": "bernoulli", "seed": 1},
    "complete": {"page": "a", "prior": "bernoulli", "code": CODE, "locked": "11000000", "seed": 1},
    "steer": {"code": CODE, "locked": FREE, "target": "labels", "k": 3, "more": True},
    "path": {"page": "a", "start": CODE, "end": FREE, "prior": "bernoulli"},
}


def post(client, name, **changes):
    return client.post(f"/api/{name}", json={**GOOD[name], **changes})


def lines(answer):
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def pixels(line, count=4):
    return np.frombuffer(base64.b64decode(line["images"]), np.uint8).reshape(count, 8, 8, 1)


def png(image):
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return stream.getvalue()


def test_the_page_is_one_file_that_loads_nothing_from_elsewhere(client):
    answer = client.get("/")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/html")
    assert "http://" not in answer.text and "https://" not in answer.text and "src=" not in answer.text
    policy = answer.headers["content-security-policy"]
    nonce = policy.partition("'nonce-")[2].partition("'")[0]
    assert policy.startswith("default-src 'none'") and answer.text.count(f'nonce="{nonce}"') == 2
    assert nonce not in client.get("/").text
    assert answer.headers["x-frame-options"] == "DENY" and answer.headers["cache-control"] == "no-store"


def test_a_row_is_the_image_and_its_code(client, session, digits):
    got = post(client, "row").json()
    assert base64.b64decode(got["image"]) == digits.images[3].tobytes()
    assert got["bits"] == code_of(session.table.bits[3])
    assert [q > 0.5 for q in got["probs"]] == [bit == "1" for bit in got["bits"]]
    assert got["caption"] == f"image 3, train, {digits.label_names[digits.labels[3]]}"
    for row in (-1, len(digits), 10**30):
        assert post(client, "row", row=row).status_code == 400


def test_an_upload_is_fitted_and_encoded(client, digits):
    exact = client.post("/api/upload", content=png(Image.fromarray(digits.images[7, ..., 0]))).json()
    assert exact["bits"] == post(client, "row", row=7).json()["bits"]
    fitted = client.post("/api/upload", content=png(Image.new("RGB", (40, 30), "red"))).json()
    assert len(fitted["bits"]) == 8 and len(base64.b64decode(fitted["image"])) == 64


def test_uploads_are_bounded(client, monkeypatch):
    monkeypatch.setattr(routes, "UPLOAD_BYTES", 1000)
    assert client.post("/api/upload", content=b"x" * 1001).status_code == 413
    assert client.post("/api/upload", content=iter([b"x" * 600] * 2)).status_code == 413
    refused = client.post("/api/upload", content=b"x" * 1000)
    assert refused.status_code == 400 and "not a picture" in refused.json()["error"]


def test_a_picture_of_too_many_pixels_is_refused(client):
    refused = client.post("/api/upload", content=png(Image.new("1", (4097, 4097))))
    assert refused.status_code == 400 and "16,777,216 pixels" in refused.json()["error"]


def test_decoding_streams_an_estimate_a_step_and_ends_with_the_images(client, session):
    told = lines(post(client, "decode"))
    assert [line.get("step") for line in told] == [1, 2, 3, None] and told[-1]["done"]
    expected = session.decode(bits_of(CODE, 8)[None], [0, 1, 2, 3], 3, "ddim")
    assert (pixels(told[-1]) == expected).all()
    # DDIM's last step without noise is its estimate.
    assert (pixels(told[-2]) == expected).all()
    assert not (pixels(told[0]) == expected).all()


def test_flipping_twice_gives_identical_bytes(client):
    first = post(client, "decode", sampler="ancestral").content
    assert post(client, "decode", sampler="ancestral", codes=["1" + CODE[1:]]).content != first
    assert post(client, "decode", sampler="ancestral").content == first


def test_codes_and_noises_make_every_pair(client):
    told = pixels(lines(post(client, "decode", codes=[CODE, FREE], noises=[5, 6]))[-1])
    # Batches of other sizes may add in another order: an image of 256 levels moves by one at most.
    alone = pixels(lines(post(client, "decode", codes=[FREE], noises=[6]))[-1], 1)
    assert np.abs(told[3].astype(int) - alone[0]).max() <= 1


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 51},
        {"sampler": "nothing"},
        {"codes": [CODE] * 5},
        {"codes": [CODE + "0"]},
    ],
)
def test_what_cannot_be_decoded_is_said_before_anything_is_sent(client, changes):
    refused = post(client, "decode", **changes)
    assert refused.status_code == 400 and refused.json()["error"] and refused.json()["hint"]


def test_readings_are_the_priors_bits_and_the_probes_probabilities(client, session):
    got = post(client, "read").json()
    assert set(got["priors"]) == {"bernoulli", "empirical", "uniform"}
    assert got["priors"]["uniform"] == pytest.approx(8)
    assert sum(got["probes"]["labels"]) == pytest.approx(1)


def test_neighbors_are_the_nearest_of_brute_force(client, session):
    got = post(client, "neighbors").json()["neighbors"]
    distances = np.sort((session.table.bits != bits_of(CODE, 8)).sum(1))[:5]
    assert [near["distance"] for near in got] == distances.tolist()
    assert all(len(base64.b64decode(near["image"])) == 64 for near in got)


def test_a_draw_is_the_priors_own(client, session):
    assert post(client, "draw").json()["bits"] == code_of(session.priors["bernoulli"].sample(1, seed=1)[0])


def test_completions_keep_the_locked_bits(client):
    for likeliest in (False, True):
        got = post(client, "complete", likeliest=likeliest).json()
        assert got["bits"][:2] == CODE[:2] and got["how"] == ("climbed" if likeliest else "exact")


def test_steering_says_yes(client, session):
    got = post(client, "steer").json()["bits"]
    before, after = (post(client, "read", code=code).json()["probes"]["labels"][3] for code in (CODE, got))
    assert after > before


def test_a_path_flips_one_bit_at_a_time(client):
    for prior in ("bernoulli", None):
        codes = post(client, "path", prior=prior).json()["codes"]
        assert codes[0] == CODE and codes[-1] == FREE and len(codes) == 1 + CODE.count("1")
        assert all(sum(a != b for a, b in zip(*pair, strict=True)) == 1 for pair in pairwise(codes))


@pytest.mark.parametrize("name", [name for name in GOOD if name != "row" and name != "draw"])
def test_codes_of_another_length_are_refused(client, name):
    field = next(field for field in ("codes", "code", "start") if field in GOOD[name])
    for code in (CODE[1:], CODE + "1"):
        refused = post(client, name, **{field: [code] if field == "codes" else code})
        assert refused.status_code == 400 and "8" in refused.json()["error"]


@pytest.mark.parametrize("name", GOOD)
def test_fields_of_other_types_and_unknown_ones_are_refused(client, name):
    for field, value in GOOD[name].items():
        for wrong in ({}, [[]], None, 1.5, True, "x", 10**40):
            if wrong is None and (name, field) == ("path", "prior"):
                continue  # no prior is a choice there
            if type(wrong) is type(value) and not isinstance(wrong, str):
                continue
            answer = post(client, name, **{field: wrong})
            if isinstance(wrong, str) and field in ("page",):
                continue  # any name will do
            assert answer.status_code == 400, (field, wrong, answer.text)
    assert post(client, name, stray=1).status_code == 400
    for body in (b"", b"[]", b"{", b'"x"', b"\xff", b"[" * 10_000):
        answer = client.post(f"/api/{name}", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 400, body[:10]


@pytest.mark.parametrize("name", GOOD)
def test_other_content_types_methods_and_sizes_are_refused(client, name, monkeypatch):
    body = json.dumps(GOOD[name])
    assert (
        client.post(f"/api/{name}", content=body, headers={"content-type": "text/plain"}).status_code == 415
    )
    assert client.get(f"/api/{name}").status_code == 405
    monkeypatch.setattr(routes, "JSON_BYTES", len(body))
    assert client.post(f"/api/{name}", json={**GOOD[name], "stray": "x" * len(body)}).status_code == 413


@pytest.mark.parametrize("name", ["draw", "complete", "path"])
def test_an_unknown_prior_is_refused(client, name):
    assert "no prior 'bernouli'" in post(client, name, prior="bernouli").json()["error"]


@pytest.mark.parametrize("change", [{"target": "attributes"}, {"k": 10}, {"k": -1}])
def test_an_unknown_reading_is_refused(client, change):
    assert post(client, "steer", **change).status_code == 400


@pytest.mark.parametrize(
    "path", ["/config.json", "/../config.json", "/static/x", "/api", "/api/none", "/%2e%2e/etc/passwd"]
)
def test_no_file_is_served(client, path):
    assert client.get(path).status_code == 404


ATTACKS = [
    {"host": "evil.example"},
    {"host": "evil.example:8123"},
    {"host": "127.0.0.1:8124"},
    {"host": "127.0.0.1.evil.example:8123"},
    {"origin": "http://evil.example"},
    {"origin": "https://127.0.0.1:8123"},
    {"origin": "http://127.0.0.1:8124"},
    {"origin": "null"},
]


@pytest.mark.parametrize("headers", ATTACKS)
def test_foreign_hosts_and_origins_are_refused(client, headers):
    assert client.get("/", headers=headers).status_code == 403
    for name, body in GOOD.items():
        assert client.post(f"/api/{name}", json=body, headers=headers).status_code == 403


def test_a_page_of_another_site_may_lead_here_but_not_ask(client):
    headers = {"sec-fetch-site": "cross-site"}
    assert client.get("/", headers=headers).status_code == 200
    assert client.post("/api/read", json=GOOD["read"], headers=headers).status_code == 403


def test_our_own_pages_may_ask(client):
    for host in ("127.0.0.1:8123", "localhost:8123"):
        headers = {"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin"}
        assert client.post("/api/read", json=GOOD["read"], headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("name", "ticket"), [("decode", "a"), ("complete", "complete a"), ("path", "path a")]
)
def test_a_newer_request_of_the_page_ends_the_older(client, desk, name, ticket):
    go, answers = threading.Event(), []
    desk.submit(go.wait)
    older = threading.Thread(target=lambda: answers.append(post(client, name)))
    older.start()
    deadline = time.monotonic() + 30
    while desk.waiting < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    desk.ticket(ticket)
    go.set()
    older.join(30)
    assert answers[0].status_code == 409 and "newer" in answers[0].json()["error"]
    assert post(client, name).status_code == 200


def test_a_full_queue_says_when_to_come_back(client, desk):
    go = threading.Event()
    for _ in range(WAITING):
        desk.submit(go.wait)
    answer = post(client, "read")
    go.set()
    assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
