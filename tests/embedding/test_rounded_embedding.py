import pytest
import torch
from torch.testing import assert_close

from define import DeFINE, RoundedEmbedding, fit_embedding
from define.embedding.packing import Columns, pack, unpack
from define.embedding.target import Target


def table(v=500, m=48, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(v, m, generator=generator) * torch.linspace(2, 0.1, m)


def error(embedding, rows):
    return float((embedding.weight.detach() - rows).square().sum() / rows.square().sum())


def stored(embedding):
    return sum(t.nbytes for t in embedding.state_dict().values())


@pytest.mark.parametrize("bits", [(8,), (1, 2, 3), (7, 0, 5, 3), (4, 4), (0, 1), (3, 3, 6, 1, 8)])
def test_packed_numbers_come_back_and_take_no_more_than_their_bits(bits):
    columns = Columns(bits, group_size=5, size=5 * len(bits) - 2)
    bits = columns.each()
    used = torch.tensor([b for b in bits if b])
    codes = (torch.rand(17, len(used)) * 2.0**used).int()
    codes[0], codes[1] = 0, 2**used - 1
    packed = pack(codes, columns)
    assert packed.shape == (17, -(-sum(bits) // 8)) == (17, columns.width())
    assert torch.equal(unpack(packed, columns).int(), codes)


@pytest.mark.parametrize("bits", range(1, 9))
def test_the_error_for_gaussian_rows_is_that_of_the_best_uniform_quantizer(bits):
    # Max 1960, Table II. Of many numbers that share a scale: few would have a narrower range.
    expected = [0.3634, 0.1188, 0.03744, 0.01154, 0.00349, 0.00104, 0.000304, 0.0000874][bits - 1]
    rows = torch.randn(40, 8000, generator=torch.Generator().manual_seed(1))
    got = error(RoundedEmbedding.from_pretrained(rows, bits=bits), rows)
    assert 0.8 * expected < got < 1.1 * expected


def test_memory_is_what_the_bits_say():
    embedding = RoundedEmbedding(1000, 64, bits=4)
    assert stored(embedding) == 1000 * (32 + 2) + 2 * 4
    assert stored(embedding.bfloat16()) == 1000 * (32 + 2) + 2 * 2  # codes and scales as before


def test_rows_without_scales_are_as_large_as_their_class():
    rows = torch.randn(400, 48)
    plain, unscaled = (
        RoundedEmbedding.from_pretrained(rows, bits=4, scale_size=size) for size in (None, 0)
    )
    assert stored(plain) - stored(unscaled) == 400 * 2
    assert error(unscaled, rows) < 1.3 * error(plain, rows) + 1e-3
    rows[7] *= 10
    assert error(RoundedEmbedding.from_pretrained(rows, bits=4), rows) < 0.02
    assert error(RoundedEmbedding.from_pretrained(rows, bits=4, scale_size=0), rows) > 0.02


def test_scales_for_groups_of_numbers_follow_outliers():
    rows = table()
    rows[:, 40] *= 100
    whole = RoundedEmbedding.from_pretrained(rows, bits=4)
    groups = RoundedEmbedding.from_pretrained(rows, bits=4, scale_size=8)
    rest = [i for i in range(48) if i // 8 != 5]
    assert error(groups, rows) < error(whole, rows)
    kept, lost = (e.weight[:, rest] - rows[:, rest] for e in (groups, whole))
    assert kept.square().sum() < 0.1 * lost.square().sum()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("rotate", [False, True])
def test_rows_of_half_precision_are_those_of_full_precision(dtype, rotate):
    rows = table(300)
    embedding = RoundedEmbedding.from_pretrained(rows, bits=8, rotate=rotate)
    full = error(embedding, rows)
    embedding = embedding.to(dtype)
    assert embedding.weight.dtype == dtype
    assert error(embedding, rows) < 2 * full
    embedding.set_rows(torch.arange(300), rows.to(dtype))
    assert error(embedding, rows) < 2 * full


def test_rows_follow_their_class_wherever_it_stands():
    rows = table()
    classes = torch.arange(500) * 7 % 3
    sizes = torch.bincount(classes).tolist()
    bits = ((8,) * 6, (2,) * 6, (0,) * 6)
    embedding = RoundedEmbedding(500, 48, bits=bits, sizes=sizes, group_size=8)
    embedding.assign(classes)
    embedding.approximate(Target(rows, torch.ones(500)))
    off = (embedding.weight - rows).square().sum(1) / rows.square().sum(1)
    assert (off[classes == 0] < 1e-3).all()
    assert ((off[classes == 1] > 1e-3) & (off[classes == 1] < 0.7)).all()
    assert (off[classes == 2] == 1).all()
    with pytest.raises(ValueError, match="which must be sizes="):
        embedding.assign((classes + 1) % 3)


def test_axes_hold_a_table_of_low_rank_in_few_columns():
    rows = torch.randn(500, 8) @ torch.randn(8, 48) + 3
    embedding = RoundedEmbedding.from_pretrained(
        rows, bits=((8,) + (0,) * 5,), sizes=(500,), group_size=8, rotate=True
    )
    assert embedding.columns == 8
    assert error(embedding, rows) < 1e-3
    plain = RoundedEmbedding.from_pretrained(rows, bits=2)
    assert stored(embedding) < stored(plain) and error(plain, rows) > 0.01


def test_rows_near_a_few_centres_need_few_bits():
    centres = 3 * torch.randn(40, 48)
    rows = centres[torch.arange(2000) % 40] + 0.1 * torch.randn(2000, 48)
    options = {"bits": ((1,) * 6,), "sizes": (2000,), "group_size": 8, "rotate": True}
    plain = RoundedEmbedding.from_pretrained(rows, **options)
    centred = RoundedEmbedding.from_pretrained(rows, **options, num_centres=64)
    assert stored(centred) - stored(plain) == 2000 + 64 * (48 + 2) + 2 * 4
    assert error(centred, rows) < 0.2 * error(plain, rows)
    off = centred.set_rows(torch.tensor([5]), rows[7:8])  # of another centre
    assert float(off) < 0.1 and (centred.weight[5] - rows[7]).norm() < 0.35 * rows[7].norm()
    with pytest.raises(ValueError, match="num_centres=2 must be"):
        RoundedEmbedding(60, 48, num_centres=2)


@pytest.mark.parametrize("centres", [0, 9])
def test_a_resized_one_keeps_its_rows(centres):
    bits = ((5, 5), (3, 1), (0, 0))
    options = {"group_size": 8, "rotate": True, "num_centres": centres}
    embedding = RoundedEmbedding(60, 16, bits=bits, sizes=(28, 30, 2), **options)
    old = embedding.weight
    for size in (70, 25):
        embedding.resize(size, mean=True)
        kept = min(size, 60)
        assert embedding.weight.shape == (size, 16)
        assert torch.equal(embedding.weight[:kept], old[:kept])
        other = RoundedEmbedding(**embedding.arguments())
        other.load_state_dict(embedding.state_dict())
        assert torch.equal(other.weight, embedding.weight)


def test_what_was_read_in_inference_mode_can_be_trained():
    ids = torch.arange(11)
    embedding = RoundedEmbedding(11, 37, bits=[[3, 0, 5]], group_size=15)  # of no other test
    with torch.inference_mode():
        rows = embedding(ids)
    embedding(ids).square().sum().backward()
    assert_close(embedding(ids), rows.clone())
    assert embedding.deviations.grad.any()


def test_define_computes_its_rows_from_a_rounded_map():
    rows = table()
    weights = 1 / torch.arange(1.0, 501)
    map = RoundedEmbedding(500, 24, bits=6)
    embedding = DeFINE(500, 48, map=map, expand_dim=32, depth=1, max_groups=1)
    fit = fit_embedding(rows, embedding, weights, rounds=3)
    assert fit.error < 0.3
    assert {t.dtype for n, t in embedding.map.state_dict().items() if "codes" in n} == {torch.uint8}
    assert_close(embedding(torch.arange(500)), embedding.weight)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 9}, "must be 0 to 8"),
        ({"bits": ((4,),), "sizes": (60,)}, "must be a number, or 2 for each of 1 to 256 classes"),
        ({"bits": ((4, 4),) * 257, "sizes": (60, *(0,) * 256)}, "for each of 1 to 256 classes"),
        ({"bits": ((4, 4),), "sizes": (59,)}, "num_embeddings=60"),
        ({"bits": ((4, 4), (2, 2))}, "sizes=None"),
        ({"group_size": 0}, "group_size=0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        RoundedEmbedding(60, 48, **options)
