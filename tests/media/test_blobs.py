"""Copies in a folder: who can fetch them, how long, and how many there may be."""

from __future__ import annotations

import asyncio
import base64
import stat
from pathlib import Path
from typing import Any

import pytest

from app.core.clock import Clock
from app.core.errors import BackendBusy, BackendUnavailable, UnsupportedFeature
from app.core.types import Image
from app.media.blob_folder import FolderHosting
from app.media.blobs import Copy, NoHosting, sweep_regularly

PARAM = "messages[0].content[0].image_url.url"
PUBLIC_URL = "https://pictures.example.com:8443/tuwen"
JPEG = Image(b"\xff\xd8 a picture", "image/jpeg", 80, 80, "0" * 64)
PNG = Image(b"\x89PNG a picture", "image/png", 80, 80, "1" * 64)


class Wound:
    """A clock that goes when told."""

    time_s = 1_800_000_000.25

    def now(self) -> float:
        return self.time_s


def hosting_in(folder: Path, wound: Wound, **changes: Any) -> FolderHosting:
    settings: dict[str, Any] = {
        "public_url": PUBLIC_URL,
        "secret": b"s" * 32,
        "clock": Clock(now=wound.now),
        "ttl_s": 600,
        "max_bytes": 10_000,
    }
    return FolderHosting(folder, **(settings | changes))


def token_of(url: str) -> str:
    head, token = url.rsplit("/", 1)
    assert head == f"{PUBLIC_URL}/blobs"
    return token


@pytest.fixture
def wound() -> Wound:
    return Wound()


@pytest.fixture
def hosting(tmp_path: Path, wound: Wound) -> FolderHosting:
    return hosting_in(tmp_path, wound)


async def test_a_picture_can_be_fetched_until_its_time_is_over(hosting: FolderHosting, wound: Wound) -> None:
    token = token_of(await hosting.publish(JPEG, (), param=PARAM))
    assert token.endswith(".jpg")
    assert await hosting.read(token) == Copy(JPEG.data, "image/jpeg")
    wound.time_s += 599.5
    assert await hosting.read(token) == Copy(JPEG.data, "image/jpeg")
    wound.time_s += 2
    assert await hosting.read(token) is None


async def test_a_copy_is_written_whole_for_its_owner_only(tmp_path: Path, hosting: FolderHosting) -> None:
    await hosting.publish(PNG, (), param=PARAM)
    [file] = tmp_path.iterdir()
    assert file.suffix == ".png"
    assert file.read_bytes() == PNG.data
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_each_publication_is_fresh_and_its_address_tells_nothing_of_the_picture(hosting: FolderHosting) -> None:
    tokens = [token_of(await hosting.publish(JPEG, (), param=PARAM)) for _ in range(3)]
    names = {base64.urlsafe_b64decode(token.partition(".")[0])[:16] for token in tokens}
    assert len(names) == 3


async def test_gateways_that_share_folder_and_secret_serve_each_others_copies(tmp_path: Path, wound: Wound) -> None:
    one, two = hosting_in(tmp_path, wound), hosting_in(tmp_path, wound)
    token = token_of(await one.publish(JPEG, (), param=PARAM))
    assert await two.read(token) == Copy(JPEG.data, "image/jpeg")
    stranger = hosting_in(tmp_path, wound, secret=b"another secret of theirs")
    assert await stranger.read(token) is None
    wound.time_s += 601
    assert await two.read(token) is None


async def test_a_token_that_was_changed_anywhere_opens_nothing(hosting: FolderHosting) -> None:
    token = token_of(await hosting.publish(JPEG, (), param=PARAM))
    letters, _, extension = token.partition(".")
    forged = [f"{letters[:at]}{'A' if letters[at] != 'A' else 'B'}{letters[at + 1 :]}.{extension}" for at in range(72)]
    forged += [letters, f"{letters}.png", f"{letters}.jpgx", f"{letters}=.jpg", f"{letters}.jpg\n", f"x{token}", ""]
    forged += ["../secret", "..%2fsecret", f"/etc/passwd/{token}", "图.jpg", f"{'A' * 72}.jpg", f"{'!' * 72}.jpg"]
    assert [await hosting.read(one) for one in forged] == [None] * len(forged)
    assert await hosting.read(token) is not None


async def test_a_copy_whose_file_is_gone_is_gone(tmp_path: Path, hosting: FolderHosting) -> None:
    token = token_of(await hosting.publish(JPEG, (), param=PARAM))
    next(tmp_path.iterdir()).unlink()
    assert await hosting.read(token) is None


async def test_over_the_bound_publishing_is_refused_until_copies_are_swept(tmp_path: Path, wound: Wound) -> None:
    hosting = hosting_in(tmp_path, wound, max_bytes=2 * len(JPEG.data))
    for _ in range(2):
        await hosting.publish(JPEG, (), param=PARAM)
    with pytest.raises(BackendBusy) as caught:
        await hosting.publish(JPEG, (), param=PARAM)
    assert caught.value.retryable  # another route may take bytes
    assert "上限" in caught.value.said_in("zh")
    assert "TUWEN_BLOB_MAX_BYTES" in caught.value.detail
    assert len(list(tmp_path.iterdir())) == 2
    wound.time_s += 601
    await hosting.sweep()
    await hosting.publish(JPEG, (), param=PARAM)
    assert len(list(tmp_path.iterdir())) == 1


async def test_copies_of_other_gateways_count_from_the_next_sweep_on(tmp_path: Path, wound: Wound) -> None:
    one, two = (hosting_in(tmp_path, wound, max_bytes=len(JPEG.data)) for _ in range(2))
    await one.publish(JPEG, (), param=PARAM)
    await two.sweep()
    with pytest.raises(BackendBusy):
        await two.publish(JPEG, (), param=PARAM)


async def test_the_sweeper_removes_what_a_crash_left_and_nothing_of_others(tmp_path: Path, wound: Wound) -> None:
    crashed = hosting_in(tmp_path, wound)
    await crashed.publish(JPEG, (), param=PARAM)
    [file] = tmp_path.iterdir()
    file.with_name(file.name + ".part").write_bytes(b"half a pic")
    (tmp_path / "notes.txt").write_text("the operator's")
    wound.time_s += 300
    kept = token_of(await hosting_in(tmp_path, wound).publish(PNG, (), param=PARAM))
    wound.time_s += 301
    after = hosting_in(tmp_path, wound)
    await after.sweep()
    assert {path.suffix for path in tmp_path.iterdir()} == {".txt", ".png"}
    assert await after.read(kept) is not None


async def test_a_file_that_cannot_be_removed_keeps_no_other_from_it_and_is_counted(
    tmp_path: Path, wound: Wound
) -> None:
    picture = Image(b"p" * 100_000, "image/jpeg", 80, 80, "0" * 64)
    hosting = hosting_in(tmp_path, wound, max_bytes=150_000)
    await hosting.publish(picture, (), param=PARAM)
    stuck = [tmp_path / f"{wound.time_s:012.0f}-{digit * 32}.jpg" for digit in "0123456789"]
    for folder in stuck:  # no file, so that it cannot be unlinked by anybody
        folder.mkdir()
    wound.time_s += 601
    await hosting.sweep()
    assert sorted(tmp_path.iterdir()) == stuck
    await hosting.publish(picture, (), param=PARAM)
    wound.time_s += 601
    await hosting.sweep()
    counted_bytes = sum(folder.stat().st_size for folder in stuck)
    with pytest.raises(BackendBusy) as caught:
        await hosting.publish(Image(b"p" * 150_000, "image/jpeg", 80, 80, "2" * 64), (), param=PARAM)
    assert f"{counted_bytes} bytes" in caught.value.detail


async def test_sweeping_goes_on_until_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    naps_s: list[float] = []
    swept = 0

    async def nap(delay_s: float) -> None:
        naps_s.append(delay_s)

    async def sweep() -> None:
        nonlocal swept
        swept += 1
        if swept == 3:
            raise asyncio.CancelledError

    monkeypatch.setattr("app.media.blobs.asyncio.sleep", nap)
    for ttl_s, nap_s in ((600, 30), (100, 5), (1, 1)):
        swept = 0
        with pytest.raises(asyncio.CancelledError):
            await sweep_regularly(sweep, ttl_s=ttl_s)
        assert naps_s[-3:] == [nap_s] * 3


async def test_a_folder_that_is_gone_costs_one_request_and_not_the_gateway(tmp_path: Path, wound: Wound) -> None:
    folder = tmp_path / "copies"
    folder.mkdir()
    hosting = hosting_in(folder, wound, max_bytes=len(JPEG.data))
    folder.rmdir()
    await hosting.sweep()
    for _ in range(2):  # what failed does not count against the bound
        with pytest.raises(BackendUnavailable) as caught:
            await hosting.publish(JPEG, (), param=PARAM)
        assert str(folder) not in str(caught.value)
        assert str(folder) in caught.value.detail
    folder.mkdir()
    await hosting.publish(JPEG, (), param=PARAM)


async def test_nothing_half_written_stays_where_a_copy_could_not_be_put_in_place(tmp_path: Path, wound: Wound) -> None:
    nonce = "ab" * 16
    hosting = hosting_in(tmp_path, wound, clock=Clock(now=wound.now, nonce=lambda: nonce))
    taken = tmp_path / f"001800000601-{nonce}.jpg"
    taken.mkdir()
    (taken / "x").touch()
    with pytest.raises(BackendUnavailable):
        await hosting.publish(JPEG, (), param=PARAM)
    assert list(tmp_path.iterdir()) == [taken]


@pytest.mark.parametrize("host", ["example.com", "pictures.example.com", "EXAMPLE.com"])
async def test_an_address_within_the_backends_domains_will_do(hosting: FolderHosting, host: str) -> None:
    assert await hosting.publish(JPEG, ("other.test", host.lower()), param=PARAM)


@pytest.mark.parametrize("domain", ["bcebos.com", "ample.com", "x.pictures.example.com"])
async def test_an_address_outside_the_backends_domains_is_refused_before_anything_is_stored(
    tmp_path: Path, hosting: FolderHosting, domain: str
) -> None:
    with pytest.raises(UnsupportedFeature) as caught:
        await hosting.publish(JPEG, (domain,), param=PARAM)
    assert caught.value.param == PARAM
    for said in (str(caught.value), caught.value.said_in("zh")):
        assert domain in said
        assert "TUWEN_BLOB_STORE=s3://BUCKET" in said
        assert "TUWEN_BLOB_ENDPOINT=https://s3." in said
    assert not list(tmp_path.iterdir())


async def test_where_nothing_is_set_up_the_operator_is_told_what_to_set() -> None:
    with pytest.raises(UnsupportedFeature, match="TUWEN_PUBLIC_URL or TUWEN_BLOB_STORE") as anywhere:
        await NoHosting().publish(JPEG, (), param=PARAM)
    assert anywhere.value.param == PARAM
    with pytest.raises(UnsupportedFeature, match=r"TUWEN_BLOB_ENDPOINT=https://s3\.bj\.bcebos\.com"):
        await NoHosting().publish(JPEG, ("bcebos.com",), param=PARAM)
