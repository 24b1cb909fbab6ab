"""Korean words: what a reader of Korean trips over and a program can find. Whether they read well, people must say."""

import re

import pytest

from wanda_ui.language import words

PARTS = ("away", "class", "error", "gate", "leaf", "lesson", "outliers", "page", "status", "try", "view")
PAGES = ("leaf", "lesson", "outliers", "view")  # each read by itself, so each brings its terms in
# Particles and endings that have another form after a consonant; whatever follows them keeps its own.
CHANGING = (
    "은|는|이|가|을|를|과|와|아|야|으로|로|이나|나|이랑|랑|이에요|예요|이었어요|였어요|이라|라|"
    "이며|며|이고|고|이든|든|이면|면"
)
AFTER = rf"(?:{CHANGING})(?:서|써|는|도|만|의|부터|고|서는|요)?(?![가-힣])"
# Behind brackets a particle goes by the word before them: 형식({format})과 is right, {name}({format})과 cannot be.
TOUCHING = re.compile(rf"(?<!%)\}}(?:\([^()]*\))?[\]”’\"'」』]*{AFTER}")
BOTH_HALVES = re.compile(
    r"은\(는\)|는\(은\)|이\(가\)|가\(이\)|을\(를\)|를\(을\)|과\(와\)|와\(과\)|\(으\)로|\(이\)[가-힣]|\(이나\)"
)
TERMS = {  # what is written for it in brackets where a page first says it
    "보정 텍스트": "calibration text",
    "희소도": "sparsity",
    "퍼플렉시티": "perplexity",
    "가지치기": "pruning",
    "원본": "dense",
    "노름": "norm",
    "마스크": "mask",
    "이상치": "outlier",
    "이상치 특징": "outlier feature",
    "거대 활성값": "massive activation",
    "잔차 스트림": "residual stream",
    "선형층": "linear",
    "구간": "window",
    "가중치 크기": "magnitude",
    "슈퍼 가중치": "super weight",
}
OTHER_TERMS = {  # words for a thing that has its own
    r"지우(?!기)|지운|지웠|지워|없애|없앤": "제거",
    r"희소성|스파시티": "희소도",
    r"보정 글|캘리브레이션": "보정 텍스트",
    r"문턱|절단선": "기준값, 기준선",
    r"(?<!가중치 )크기 (방법|기준)": "가중치 크기 기준, apart from 모델 크기",
    r"(?<![가-힣])창 \{|창 [0-9]": "구간",
    r"(?<![가-힣])글(?=[이을은에의로 ,.]|$)": "텍스트",
    r"선형 층": "선형층",
    r"파이썬": "Python",
    r"(?<![가-힣])밀집": "원본",
}
NAMES = """
    Wanda Lab SparseGPT RIA OWL OBS LLaMA SmolLM LLM int Hugging Face Apple NVIDIA GPU MLP KL Pearson Python Enter HTML
    JSON CSV KB MB UTF GET POST IP SVG PNG zip txt gradio api queue join true false host localhost FOLDER run json
    points csv FLAP An CUDA QR RMSNorm model gate up down proj builtin outliers Dettmers pip install wanda lab sweep
    venv bin python core RMS Tab Page Up Down
"""


def korean(part: str) -> dict[str, str]:
    return {key: text for key, text in words("ko").items() if key.split(".")[0] == part}


def found(part: str, pattern: str | re.Pattern) -> dict[str, str]:
    return {key: text for key, text in korean(part).items() if re.search(pattern, text)}


@pytest.mark.parametrize(
    ("text", "touches"),
    [
        ("{name}은 없어요", True),
        ("“{word}”이라고 해요", True),
        ("{name}({value})을 바꿔요", True),
        ("값({value})을 바꿔요", False),
        ("{time}로는 모자라요", True),
        ("{value}예요", True),
        ("{count}개예요", False),
        ("{share:.0%}예요", False),  # is always read as percent
        ("{place}위예요", False),
        ("{value}나트", False),  # a unit that begins like a particle
        ("{model}의 답, {block}에서 {at}까지", False),  # these have one form
        ("{name}: 없어요", False),
    ],
)
def test_a_particle_that_depends_on_what_is_put_in_is_found(text, touches):
    assert bool(TOUCHING.search(text)) == touches


@pytest.mark.parametrize("part", PARTS)
def test_no_particle_depends_on_what_is_put_in(part):
    assert found(part, TOUCHING) == {}
    assert found(part, BOTH_HALVES) == {}


@pytest.mark.parametrize("part", PARTS)
def test_everything_is_said_in_one_polite_form(part):
    assert found(part, r"니다|십시오|하시오|(?<!마)다(?=[.!?…]|$)") == {}


@pytest.mark.parametrize("part", PARTS)
def test_one_thing_has_one_name(part):
    assert {
        f"{term}: say {instead}": used for term, instead in OTHER_TERMS.items() if (used := found(part, term))
    } == {}


@pytest.mark.parametrize("part", [part for part in PARTS if part != "error"])  # errors name files, settings and types
def test_nothing_is_left_in_english(part):
    left = {}
    for key, text in korean(part).items():
        bare = re.sub(r"\{[^}]*\}|\([^()가-힣]*\)|`[^`]*`|“[^”가-힣]*”", " ", text)
        foreign = [word for word in re.findall(r"[A-Za-z]{2,}", bare) if word not in NAMES.split()]
        if foreign and not key.endswith((".placeholder", ".language")):
            left[key] = foreign
    assert left == {}


def test_no_error_is_left_in_english():
    assert found("error", r"[A-Za-z]+( [a-z]+){2,}(?![^`]*`)") == {}


@pytest.mark.parametrize("part", PAGES)
def test_a_term_has_its_english_beside_it_where_a_page_brings_it_in(part):
    said = " ".join(korean(part).values())
    missing = {
        term
        for term, english in TERMS.items()
        if term in said and not re.search(rf"{term}[^()]{{0,4}}\([^()]*{english}", said)
    }
    assert missing == set()


SIDE_BY_SIDE = ("method_help", "order_help", "update_help", "group_help", "allocation_help", "state", "finding", "run")


@pytest.mark.parametrize("group", SIDE_BY_SIDE)
def test_what_stands_side_by_side_has_one_form(group):
    shown = [text for key, text in korean("view").items() if key.startswith(f"view.{group}.") and "{at}(" not in text]
    assert len(shown) > 1
    assert len({bool(re.search(r"요$|\.$", text)) for text in shown}) == 1
