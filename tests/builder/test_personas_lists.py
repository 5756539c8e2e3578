"""The curated phrase lists: long enough, distinct, contradicting neither the person nor one another; and the draw from them."""

import re
from collections import Counter
from collections.abc import Iterable
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.census.pums import read_packaged
from builder.errors import InputError
from builder.personas.demographics import facts_about
from builder.personas.lists import (
    BELIEF_FACTS,
    FACTS,
    LIST_FACTS,
    OPPOSITES,
    PERSONALITY_FACTS,
    RECORD_FACTS,
    RULED_OUT_BY,
    TELLING_FACTS,
    Phrase,
    draw_phrases,
    load_phrases,
    make_phrase,
    ruled_out,
)
from builder.personas.psychographics import EXTRAS, LISTS
from builder.randomness import rng_for
from builder.schema import BIG_FIVE

COUNTS = {**LISTS, **EXTRAS}  # list -> phrases of each person, in the order of the draw
# Facts that come together in every record, so that a phrase need exclude one of them only.
COMES_WITH = {
    **{f"{sense}_difficulty": ["disability"] for sense in ("vision", "hearing", "cognitive")},
    "institution": ["group_quarters"],
    "deafblind": ["vision_difficulty", "hearing_difficulty", "disability"],
    "little_schooling": ["low_education"],
    "children_at_home": ["family_household"],
    "partnered": ["married"],
    "abrahamic": ["religious"],
    "feast_and_fast_faith": ["religious"],
    "christian": ["abrahamic", "religious"],
    "evangelical": ["christian", "abrahamic", "religious"],
    "latter_day_saint": ["christian", "abrahamic", "religious"],
    "muslim": ["abrahamic", "feast_and_fast_faith", "religious"],
    "hindu": ["feast_and_fast_faith", "religious"],
    "buddhist": ["religious"],
    "atheist": ["unaffiliated"],
    "very_liberal": ["liberal"],
    "very_conservative": ["conservative"],
}
# Facts that no record has together.
AT_HOME = ["lives_alone", "family_household", "cohabiting_household", "children_at_home", "only_small_children"]
AT_WORK = ["worker", "self_employed", "military", "unemployed"]
NEVER_WITH = {
    "low_income": ["high_income", "partnered", "married"],
    "institution": [*AT_HOME, *AT_WORK],
    "group_quarters": AT_HOME,
    "lives_alone": ["family_household", "cohabiting_household", "children_at_home", "only_small_children", "partnered"],
    "retired": [*AT_WORK, "new_baby"],
    "unemployed": ["worker", "self_employed", "military"],
    "partnered": ["never_married", "widowed", "cohabiting_household"],
    "married": ["never_married", "widowed"],
    "widowed": ["never_married"],
    "good_english": ["weak_english"],
    "unaffiliated": ["religious"],
    "abrahamic": ["buddhist", "hindu"],
    "christian": ["muslim", "buddhist", "hindu"],
    "evangelical": ["latter_day_saint", "feast_and_fast_faith"],
    "latter_day_saint": ["feast_and_fast_faith"],
    "muslim": ["buddhist", "hindu"],
    "buddhist": ["hindu", "feast_and_fast_faith"],
    "liberal": ["conservative"],
    "democrat": ["republican"],
    **{f"low_{trait}": [f"high_{trait}"] for trait in BIG_FIVE},
}
HARD = (
    *("vision_difficulty", "hearing_difficulty", "cognitive_difficulty", "disability", "institution"),
    *("low_income", "weak_english", "not_citizen"),
)


def with_what_comes_along(facts: Iterable[str]) -> set[str]:
    found = {other for fact in facts for other in (fact, *COMES_WITH.get(fact, ()))}
    # The one fact that two others make together.
    return found | {"deafblind"} if found >= {"vision_difficulty", "hearing_difficulty"} else found


def exclude_each_other(some: set[str], others: set[str]) -> bool:
    return any(
        (first in some and not others.isdisjoint(never)) or (first in others and not some.isdisjoint(never))
        for first, never in NEVER_WITH.items()
    )


def everything() -> list[tuple[str, Phrase]]:
    return [(name, phrase) for name in COUNTS for phrase in load_phrases(name)]


def test_facts_come_together_and_apart_as_the_tests_below_take_for_granted() -> None:
    for record in read_packaged().table.slice(0, 10_000).to_pylist():
        facts = facts_about(record, veteran=False)
        assert facts <= RECORD_FACTS
        assert with_what_comes_along(facts) == facts
        assert not exclude_each_other(facts, facts), facts


# --- The lists as such ---


@pytest.mark.parametrize("name", COUNTS)
def test_an_adult_can_get_at_least_150_phrases(name: str) -> None:
    assert sum(phrase.ages[1] >= 18 for phrase in load_phrases(name)) >= 150


@pytest.mark.parametrize("name", COUNTS)
def test_each_age_has_a_choice(name: str) -> None:
    """Before anything else is known of the person."""
    for age in range(3, 101):
        fitting = sum(phrase.fits(age, set()) for phrase in load_phrases(name))
        assert fitting >= (8 if age < 6 else 11 if age < 18 else 50), (age, fitting)


def test_phrases_are_distinct_over_all_lists() -> None:
    texts = Counter(re.sub(r"\W+", " ", phrase.text).strip().lower() for _, phrase in everything())
    assert [text for text, count in texts.items() if count > 1] == []


SMALL_WORDS = frozenset(
    [
        "a",
        "an",
        "the",
        "and",
        "or",
        "of",
        "in",
        "on",
        "to",
        "for",
        "with",
        "at",
        "is",
        "as",
        "it",
        "by",
        "from",
        "who",
        "what",
    ]
)
NEAR = 0.6
# The paper prints both.
PAPERS_OWN = {"Spends free time gardening or reading", "Spends free time drawing or reading"}


def stems(text: str) -> frozenset[str]:
    words = re.findall(r"[a-z]+", text.lower().replace("'s", ""))
    return frozenset(re.sub(r"(?<=...)(ing|ed|es|s)$", "", word) for word in words if word not in SMALL_WORDS)


def test_no_two_phrases_share_most_of_their_words() -> None:
    """Words in common over words in either (Jaccard), without endings and small words."""
    phrases = [(phrase.text, stems(phrase.text)) for _, phrase in everything()]
    near = [
        {first, second}
        for (first, ours), (second, theirs) in combinations(phrases, 2)
        if len(ours & theirs) >= NEAR * len(ours | theirs)
    ]
    assert near == [PAPERS_OWN]


# A subject or a gender: the lists do not know the person's sex. `you know` is a quotation.
PERSONAL = re.compile(r"\b(he|she|his|hers?|him|himself|herself|I|my|your|you(?! know))\b(?!-)")
VERB_FIRST = re.compile(
    r"([A-Z][a-z]*s|Always|Can|Cannot|Double-checks|Gave|Never|Often|Still|Video-chats|Will|Would)\b"
)


def test_the_voice_is_the_same_throughout() -> None:
    for name, phrase in everything():
        assert phrase.text[0].isupper(), phrase.text
        assert phrase.text[-1] not in ".!? ", phrase.text
        assert len(phrase.text.split()) <= 13, phrase.text
        assert not PERSONAL.search(phrase.text.replace("thank-you", "")), phrase.text
        if name in ("personal_time", "defining_quirks", "mannerisms"):
            assert VERB_FIRST.match(phrase.text), phrase.text


def test_every_condition_can_be_met() -> None:
    ""
    """By somebody: nothing needed is excluded, and a fact of the lists is needed only where an earlier list can have given it."""
    given_before: set[str] = set()
    for name in COUNTS:
        for phrase in load_phrases(name):
            assert 0 <= phrase.ages[0] <= phrase.ages[1] <= 120, phrase
            needed = with_what_comes_along(phrase.needs)
            assert not needed & phrase.not_with, phrase
            assert not exclude_each_other(needed, needed), phrase
            assert phrase.needs & LIST_FACTS <= given_before, phrase
        given_before |= {fact for phrase in load_phrases(name) for fact in phrase.gives}


def test_no_fact_of_the_lists_is_idle() -> None:
    ""
    """Each is given by a phrase, and each pair by two lists at least; within a list of one phrase a person nothing can be contradicted."""
    givers = {fact: {name for name, phrase in everything() if fact in phrase.gives} for fact in LIST_FACTS}
    assert [fact for fact, names in givers.items() if not names] == []
    assert [pair for pair in OPPOSITES if len(givers[pair[0]] | givers[pair[1]]) < 2] == []
    assert set(RULED_OUT_BY) <= LIST_FACTS
    assert {fact for facts in RULED_OUT_BY.values() for fact in facts} <= FACTS - LIST_FACTS


def test_a_condition_that_cannot_work_is_an_error() -> None:
    with pytest.raises(InputError, match="hearing_dificulty"):
        make_phrase({"text": "Sings", "not_with": ["hearing_dificulty"]}, "quirks")
    with pytest.raises(InputError, match="not-with"):
        make_phrase({"text": "Sings", "not-with": ["institution"]}, "quirks")
    with pytest.raises(InputError, match="give its opposite"):
        make_phrase({"text": "Owns a barnful of tools", "not_with": ["minimalist"]}, "quirks")
    with pytest.raises(InputError, match="institution in the wrong place"):
        make_phrase({"text": "Sings", "gives": ["institution"]}, "quirks")


# --- What the words of a phrase imply, against what is known of the person ---
#
# The tables below are lists of words, wider than the phrases of today, so that a new phrase that is not tagged is caught. Where a word
# has another sense in a phrase, the phrase stands beside it as an exception; an exception that is none any more fails too.

SEEING = r"""
    read(?:s|ing|er)? | rereads | bookish | books? | novels? | fiction | classics | biographies | magazines?
    | newspapers? | comics | catalogs? | journal | diary | blog | letters | writes | writing | handwritten | pens?
    | pencils? | notebook | watch(?:es|ing)? | watchful | looks? | sees | peers | squints | glances | stares
    | winks? | blinks | eyes? | glasses | mirror | pictures? | photos? | photographs? | camera | paints?
    | paintings? | sketch(?:es)? | draw(?:s|ing)? | diagrams | doodles | colors | crayons | films? | movies?
    | shows | series | televis\w+ | tv | videos? | screens? | dramas? | sitcoms? | documentar\w+ | anime
    | cartoons? | drives? | driving | drivers? | cars? | truck | motorcycles? | boat | parking | chess | cards?
    | puzzles? | crosswords? | dominoes | checkers | board games? | darts | knits | sews | embroiders | quilts?
    | birds? | stars | telescope | rifle | hunt(?:s|ing)? | shoots? | shooting | bicycle | skateboards? | skis
    | scooter | museums? | galleries | fireworks | parades? | scrolls | clips | livestreams | labels? | obituaries
    | instructions | lint | clock | thumbs-up | nod to | stamps | coins | garden(?:s|ing)? | albums | makeup
"""
HEARING = r"""
    listen(?:s|ing)? | music\w* | songs? | sings? | singing | sing-alongs? | karaoke | choir | hums? | whistles
    | whisper\w* | phones | on the phone | calls(?! every| that| people) | phone calls? | voicemail | radio
    | podcasts? | audio\w* | concerts? | bands? | guitar | piano | violin | instruments? | instrumentals
    | whole albums | beats | hears | overhears | eavesdrops | earbuds | headphones | interviews | talk shows?
    | jazz | blues | classic rock | soft rock | punk | pop | hip-hop | soul | reggae | disco | metal | opera
    | folk | gospel | hymns? | soundtracks | polkas | waltzes | sermons | preachers | lyrics | tunes?
    | fan running | stand-up | bingo | by voice | toward voices | metal detector | scanner | dance music | satire
    | gossips
"""
CONCENTRATING = r"""
    remembers | memory | memorizes | by heart | chess | crosswords? | stud(?:y|ies|ious) | certificate
    | statistics | class(?:es)? | grammar | quiz | trivia | codes | knows (?:every|obscure|the price|which)
    | investments | strategy | number puzzles | map | scheduled | history books | book club | long classics
    | new language | new word | role-playing | trick-taking | poker | riddles | leagues | interviews | both sides
    | big words | computers
"""
EXERTION = r"""
    hikes? | runs | gym | workouts? | works out | weights | basketball | soccer | softball | baseball | tennis
    | pickleball | golf | bicycle | skis | snowboards | skateboards | kayak | climbs | firewood | dances | dancing
    | scooter | hunting | fishing | rifle | camps | horses | lawns? | mows | walks? | walking | stands | paces
    | bowls | hoops | martial art | yoga | gymnastics | furniture | fitness-oriented | outdoorsy | sporty | tag
    | muddy | stroller | skips | works in the vegetable garden | woodworking | woods | vegetable patch | snow
    | lifts | shovels | on the go | rearranges
"""
HOME = r"""
    gardens? | gardening | yard | lawns? | kitchen | cooks? | cooking | cookbooks | bakes | grills | garage
    | basement | attic | porch | driveway | fence | furniture | dishwasher | thermostat | appliances | the house
    | houseplants? | household | houseproud | hosts | pets | the dog | the cat | cats | hens | tropical fish
    | neighbors? | front door | refrigerator | balcony | recipes? | in the bath | dishes | laundry
    | apartment-sized | mobile home | suburban | stray | two-person | room door | roommates? | handy
    | do-it-yourself | home-centered | decorates | potluck at home | tools
"""
COMING_AND_GOING = r"""
    restaurants? | dining out | diner | eat out | breakfast out | stores? | shops? | shopping | mall | casino
    | in a bar | beer | trips? | traveling | travels | tours? | heading south | beach | museums? | galleries
    | fairs | county fair | festivals? | parks? | parking | pool | theater | public library | markets? | online
    | by app | with an app | tablet | laptop | smartphone | text messages | emails? | voicemail | gadgets?
    | drives? | driving | bus | cars? | truck | haircut | volunteers | volunteering | votes | elections?
    | town meetings | potlucks | gym | fishing | hunting | camps | hikes | boat | nightclubs | gives blood | scout
    | podcasts? | dates | dating | strangers in line | receipt | the check | takeout | roads? | tips | snacks
    | free sample | hugs
"""
EXPENSE = r"""
    restaurants? | dining out | breakfast out | boat | golf when | skis | kayak | rides horses | motorcycle
    | vinyl | new gadget | investments | casino | slot machines | tips | fine things | best seats
    | amusement parks | music festivals | telescope | tropical | more shoes | in bulk | tours | home shopping
    | roller coasters | dance or gymnastics lessons | travel(?! writing) | brews | collects vinyl | live music
    | lends | overdresses | debt-free
"""
EASY_ENGLISH = r"""
    puns? | crosswords? | grammar | slang | one-liner | stand-up | talk radio | talk shows? | satire
    | sketch comedy | quiz | joke ready | big words | word games | old-fashioned expressions | finishes other
    | sentences trail | swear word | town meetings | doors for candidates | "[^"]+"
    | workplace comedies | sitcoms | at the counter | role-playing | haircut | book club | fan fiction | police scanner
    | cabaret | radio serials | sports talk | strangers very | long arguments | volunteer fire
    | community theater | local theater | strangers in line | crime podcasts | news podcasts | quotes old
"""
CITIZENSHIP = r"""
    votes | voting | elections? | town meetings | candidates | jury | flag | patriot\w* | a citizen
    | gun shows | shooting range
"""

DOING = ("lifestyle", "personal_time", "defining_quirks", "mannerisms")
# What is implied -> who cannot, the words, the lists in which they are said of the person, the exceptions.
ABILITIES: dict[str, tuple[str, str, Iterable[str], list[str]]] = {
    "seeing": (
        "vision_difficulty",
        SEEING,
        COUNTS,
        [
            "Anything but a screen",
            "Listens to whole albums lying on the floor",
            "Stock car racing",
            "Urban and walkable, with little driving",
            "Never learned to drive and knows every bus",
            "Buys on impulse and regrets it in the parking lot",
            "Jingles coins or keys in a pocket",
            "Clicks a pen when impatient",
            "Chews pencils and sleeves",
            "Closes the eyes to think",
            "Smiles with the eyes before saying anything",
            "Talks with wide eyes when excited",
            "Shows every feeling on the face",
            "Paycheck to paycheck, without drama",
            "Frowns while concentrating and looks cross",
            "Draws out the vowels when amused",
            "Movie and game soundtracks",
            "Integrity when nobody is watching",
        ],
    ),
    "hearing": (
        "hearing_difficulty",
        HEARING,
        COUNTS,
        ["Puzzle games on the phone", "Sleeps late and calls that a hobby"],
    ),
    "concentrating": ("cognitive_difficulty", CONCENTRATING, COUNTS, ["Keeping a memory alive"]),
    "exertion": (
        "disability",
        EXERTION,
        DOING,
        ["Runs a hand through the hair when nervous", "Smiles and gestures where the English runs out"],
    ),
    "a home of one's own": (
        "group_quarters",
        HOME,
        COUNTS,
        ["Being a good neighbor", "Cooking shows", "Works out in the yard when it is open"],
    ),
    "coming and going": (
        "institution",
        COMING_AND_GOING,
        COUNTS,
        ["Car restoration shows", "Fishing and hunting shows", "Reality dating shows", "Stock car racing"],
    ),
    "money to spare": ("low_income", EXPENSE, COUNTS, []),
    "easy English": ("weak_english", EASY_ENGLISH, COUNTS, ['Asks "why" about everything']),
    "citizenship": ("not_citizen", CITIZENSHIP, COUNTS, []),
}


def mentions(words: str, phrase: Phrase) -> bool:
    pattern = re.sub(r"\s*\|\s*", "|", re.sub(r"\s+", " ", words.strip()))
    return re.search(rf"(?<![\w-])(?:{pattern})(?!\w)", phrase.text, re.IGNORECASE) is not None


def can_meet(phrase: Phrase, fact: str) -> bool:
    """Whether somebody with `fact` can get the phrase, other than because it was written for such a person."""
    facts = with_what_comes_along([fact])
    assumed = with_what_comes_along(phrase.needs)
    barred = phrase.needs | phrase.not_with | ruled_out(phrase.needs)
    return not facts & barred and not exclude_each_other(facts, assumed)


@pytest.mark.parametrize("ability", ABILITIES)
def test_phrases_that_imply_an_ability_exclude_who_lacks_it(ability: str) -> None:
    fact, words, lists, exceptions = ABILITIES[ability]
    phrases = [phrase for name in lists for phrase in load_phrases(name)]
    assert {phrase.text for phrase in phrases if mentions(words, phrase) and can_meet(phrase, fact)} == set(exceptions)


# Words; the facts of which one must be needed; the exceptions.
SITUATIONS: list[tuple[str, set[str], set[str]]] = [
    (
        "after work | before work | weekdays | workdays? | work hours | shifts? | commute | coworkers? | boss"
        " | paychecks? | payday | career | job | customers | day's work | at work | line of work | into the evening"
        " | toward retirement | part-time | overtime | the office | colleagues",
        {"worker", "self_employed", "military"},
        {
            "Careful on weekdays, lavish at the holidays",
            "Shifts from one foot to the other",
            "Cannot leave a job half done",
            'Calls everyone "buddy" or "boss"',
            "Stalled since the last job and a little discouraged",
        },
    ),
    ("early shift | night shifts?(?! manager) | shift work", {"shift_job"}, set()),
    ("household of relatives | with the family", {"family_household"}, set()),
    ("retired | fixed income | rest without guilt", {"retired"}, set()),
    ("between jobs | odd jobs | last job | looking for work", {"unemployed"}, set()),
    (
        r"spouse\w* | marriage | husband | wife | weddings? | widow\w* | growing old together",
        {"partnered", "widowed"},
        set(),
    ),
    (
        "the children | caring for children | small children | toddlers? | school calendars | a good parent | the kids",
        {"children_at_home"},
        {"Newly quiet, with the children grown and gone"},
    ),
    (r"new baby | the baby\S* | stroller | newborn", {"new_baby"}, set()),
    (
        r"pray\w* | worship | sacred | scripture | sermons? | hymns | gospel | church | preachers | god | grace"
        r" | devotional | religious | faith | services | one's beliefs",
        {"religious", "christian", "abrahamic", "feast_and_fast_faith"},
        {"Secular, with nothing sacred about the weekend but sleep"},
    ),
    ("secular | without religion", {"unaffiliated"}, set()),
    (
        "service friends | military service | veterans | comrades | the uniform | the service | locker",
        {"veteran", "military"},
        set(),
    ),
    (
        "the facility | the facility's | the staff | visiting day | family outside | life outside | set mealtimes",
        {"institution"},
        set(),
    ),
    (
        "common room | day room | fellow residents | down the hall | dorm | house rules | corridor",
        {"institution", "group_quarters"},
        set(),
    ),
    (
        "country of birth | old country | abroad | new country | old currency | home country | soft accent",
        {"foreign_born"},
        set(),
    ),
    (
        "mother tongue | two languages | another language | switches languages | first language",
        {"other_language"},
        set(),
    ),
    ("in English | the English | English class", {"weak_english"}, set()),
    ("living alone | live alone | solitary evenings", {"lives_alone"}, set()),
    ("hearing aids | captions | captioned | one ear | louder than needed", {"hearing_difficulty"}, set()),
    ("by touch | papers close | described movies | footstep", {"vision_difficulty"}, set()),
    ("a disability | treatment | health and energy | pitied | waves off help", {"disability"}, set()),
]


@pytest.mark.parametrize(
    ("words", "needed", "exceptions"), SITUATIONS, ids=[words.split()[0] for words, *_ in SITUATIONS]
)
def test_phrases_about_a_situation_need_it(words: str, needed: set[str], exceptions: set[str]) -> None:
    mentioned = [phrase for _, phrase in everything() if mentions(words, phrase)]
    assert mentioned
    assert {phrase.text for phrase in mentioned if not phrase.needs & needed} == exceptions


# Words; the youngest and the oldest who may get the phrase; the exceptions.
YEARS: list[tuple[str, int, int, set[str]]] = [
    (
        "twenty years | decades | old days | many years | long life | long marriage | grown and gone | reunions"
        " | long ago | usual age",
        40,
        120,
        set(),
    ),
    ("for years | old injury | old records | heirloom | keepsakes | retirement", 22, 120, set()),
    (r"grandchild\w* | grandkids", 50, 120, set()),
    (
        "beer | in a bar | alcohol | bottle | wine | nightclubs | poker | casino | slot machines | tailgating"
        " | scratch ticket | cabaret | shoots pool | soberer | party-loving",
        21,
        120,
        set(),
    ),
    ("drives | cars? | truck | motorcycle | parking | price of gas | drivers", 15, 120, {"Stock car racing"}),
    ("the check | bills | debts | thermostat | dishwasher | payday | paycheck | budgeted | receipt", 18, 120, set()),
    (
        "skateboards | basketball | soccer | martial art | snowboards | lifts weights | hoops",
        7,
        62,
        {"Professional basketball", "College basketball in March", "Soccer matches"},
    ),
    (
        "hikes | runs a few | bicycle | kayak | rides | mows | firewood | fitness-oriented | hunting | camps"
        " | dancing | rifle",
        5,
        90,
        set(),
    ),
    ("gaming | video games | beats | anime | shooter | by app | trend | superhero", 7, 60, set()),
    (
        "toys | crayons | blocks | scooter | stuffed animals | classmates | after school | homework | grown-ups?"
        " | fairy | peekaboo | playground | sleepovers | allowance | grandparents? | knock-knock",
        0,
        17,
        {"Helps the children with homework", "Short on sleep and long on toys, with small children about"},
    ),
]


@pytest.mark.parametrize(
    ("words", "youngest", "oldest", "exceptions"), YEARS, ids=[words.split()[0] for words, *_ in YEARS]
)
def test_phrases_fit_the_years_that_they_speak_of(words: str, youngest: int, oldest: int, exceptions: set[str]) -> None:
    mentioned = [phrase for _, phrase in everything() if mentions(words, phrase)]
    assert mentioned
    outside = {phrase.text for phrase in mentioned if phrase.ages[0] < youngest or phrase.ages[1] > oldest}
    assert outside == exceptions


# Words; the facts of which one must be given, so that the other lists can keep off; the exceptions.
STATEMENTS: list[tuple[str, set[str], set[str]]] = [
    (
        "online | an app | by app | tablet | laptop | smartphone | text messages | emails? | scrolls | clips"
        " | podcasts | gadgets? | video-chats",
        {"online", "low_tech"},
        set(),
    ),
    (
        r"televis\w+ | films? | movies? | dramas? | sitcoms? | comedies | documentaries | reruns | soap operas",
        {"tv_viewer", "no_tv"},
        {
            "Described movies and audio guides",
            "Movie and game soundtracks",
            "Paycheck to paycheck, without drama",
            "Sleepovers with scary movies",
        },
    ),
    (
        "novels? | books? | bookish",
        {"reader", "nonreader"},
        {"Looks at picture books", "Reads the same picture book aloud every night"},
    ),
    (r"garden\w* | houseplants? | green thumb", {"gardener", "no_garden"}, set()),
    (
        "cooks? | cooking | cookbooks | bakes? | recipes? | toast | takeout",
        {"cook", "no_cook"},
        {"Bakes with a parent or grandparent", "Cooking shows"},
    ),
    (
        "dogs? | cats? | hens | pets",
        {"pets", "no_pets"},
        {"Cannot pass a dog without greeting it", "Wants to pet every dog"},
    ),
    (
        "drives? | cars? | motorcycle | truck | parking | back seat | drivers | little driving | every bus",
        {"drives", "no_car"},
        {
            "Buys on impulse and regrets it in the parking lot",
            "Skateboards in empty parking lots",
            "Car restoration shows",
            "Classic car shows",
            "Stock car racing",
        },
    ),
    ("coffee", {"coffee", "no_coffee"}, set()),
    ("beer | wine | alcohol | bottle | soberer", {"alcohol", "no_alcohol"}, set()),
    ("meat | hunting | fishing | vegetarian | fish fries | rifle | grills", {"meat_eater", "vegetarian"}, set()),
    (
        "news",
        {"news_follower", "news_avoider"},
        {
            "Hears neighborhood news before anyone else",
            "Letters and news from home",
            "Small-town, where news travels by itself",
            "Knocks on wood after good news",
            "Shakes the head slowly at bad news",
            "Softens bad news with a compliment",
        },
    ),
    (
        r"midnight | night-owl | sleeps? late\w* | sleeping late\w* | until noon | night shifts"
        r" | late into the night | up late",
        {"night_owl"},
        set(),
    ),
    (
        "dawn | early | before breakfast | first awake | before work",
        {"early_riser"},
        {
            "Always arrives ten minutes early",
            "Calmer and soberer after wild early years",
            "Serious about school and early with homework",
        },
    ),
    ("candy | desserts? | cake", {"sweet_tooth", "no_sweets"}, {"Trades dessert for other favors"}),
    (r"frugal\w* | thrifty | thrift | full price | budgeted", {"frugal"}, set()),
    (
        "collects? | collector's | saves every | keeps every | never throws | a spare",
        {"keeper"},
        {"Collects interesting rocks"},
    ),
    (
        "phones | calls | on the phone | voicemail",
        {"phone_caller", "no_phone_calls"},
        {
            "Answers calls with the volunteer fire company",
            "Puzzle games on the phone",
            "Sleeps late and calls that a hobby",
            'Calls everyone "buddy" or "boss"',
            'Calls everyone "dear" or "hon"',
            "Turns toward voices and calls people by name",
        },
    ),
    (
        "hikes | walks | workouts? | gym | runs a few | swims | yoga | basketball | soccer | golf | skis"
        " | martial art | sedentary",
        {"sporty", "sedentary"},
        {
            "College basketball in March",
            "Golf tournaments",
            "Professional basketball",
            "Soccer matches",
            "Trains and walks the dog",
            "Walks a step ahead of everybody",
            "Walks off in the middle of a conversation",
        },
    ),
    (
        "garage | basement | driveway | fence | porch | the yard | the lawn | apartment-sized | balcony",
        {"house", "apartment"},
        {"Works out in the yard when it is open"},
    ),
    ("swears? | swear word", {"swears", "never_swears"}, {"Swears by grandmother's remedies"}),
    (
        "jokes? | puns | one-liner | humor",
        {"joker", "serious"},
        {"Holds a grudge with good humor", "Knock-knock jokes"},
    ),
]


@pytest.mark.parametrize(
    ("words", "given", "exceptions"), STATEMENTS, ids=[words.split()[0] for words, *_ in STATEMENTS]
)
def test_phrases_tell_the_other_lists_what_they_say(words: str, given: set[str], exceptions: set[str]) -> None:
    mentioned = [phrase for _, phrase in everything() if mentions(words, phrase)]
    assert mentioned
    assert {phrase.text for phrase in mentioned if not phrase.gives & given} == exceptions


# --- The draw ---


def test_everybody_gets_a_phrase_of_each_list() -> None:
    """Every age with every combination of the hard facts."""
    rng = rng_for(0, "t", "everybody")
    for held in product((False, True), repeat=len(HARD)):
        facts = with_what_comes_along(fact for fact, holds in zip(HARD, held, strict=True) if holds)
        for age in range(3, 101):
            for name in COUNTS:
                assert draw_phrases(name, 1, age, set(facts), rng), (name, age, facts)


def test_small_children_get_a_phrase_of_each_list_too() -> None:
    """Before the age at which anything but seeing and hearing is asked."""
    for age, difficulty in product((0, 1, 2), ("vision_difficulty", "hearing_difficulty", "foreign_born")):
        facts = with_what_comes_along([difficulty, "never_married"])
        assert all(draw_phrases(name, 1, age, set(facts), rng_for(0, "t", name)) for name in COUNTS)


def random_person(number: int) -> tuple[int, set[str]]:
    ""
    """An age and facts at random, often many and odd, but never two that no record and no sampled answers have together."""
    rng = rng_for(0, "people", str(number))
    facts: set[str] = set()
    for fact in rng.permutation(sorted(RECORD_FACTS | BELIEF_FACTS | PERSONALITY_FACTS)):
        added = with_what_comes_along([str(fact)])
        if rng.random() < 0.3 and not exclude_each_other(added, facts | added):
            facts = with_what_comes_along(facts | added)
    return int(rng.integers(3, 101)), facts


@pytest.fixture(scope="module")
def drawn_sets() -> list[tuple[int, set[str], dict[str, list[str]]]]:
    """Age, facts before any draw, and the whole set of phrases of 5,000 people."""
    sets = []
    for number in range(5000):
        age, before = random_person(number)
        facts, rng = set(before), rng_for(0, "draws", str(number))
        sets.append((age, before, {name: draw_phrases(name, count, age, facts, rng) for name, count in COUNTS.items()}))
    return sets


def test_no_drawn_phrase_contradicts_the_person_or_another_phrase(drawn_sets: list[Any]) -> None:
    """Against the record and against what any other phrase says, whichever was drawn first."""
    by_text = {phrase.text: phrase for _, phrase in everything()}
    for age, before, drawn in drawn_sets:
        phrases = [by_text[text] for texts in drawn.values() for text in texts]
        said = {fact for phrase in phrases for fact in phrase.gives}
        for phrase in phrases:
            assert phrase.fits(age, before | said), (phrase, before, said)
        assert not [pair for pair in OPPOSITES if set(pair) <= said]


def test_everybody_gets_a_whole_set_without_repetition(drawn_sets: list[Any]) -> None:
    for age, before, drawn in drawn_sets:
        assert {name: len(set(texts)) for name, texts in drawn.items()} == COUNTS, (age, before)


def test_nearly_every_phrase_is_drawn_by_somebody(drawn_sets: list[Any]) -> None:
    """Of 5,000 people aged 3 to 100; what remains was written for situations that chance seldom makes."""
    drawn = {text for _, _, texts_of in drawn_sets for texts in texts_of.values() for text in texts}
    never = [phrase.text for _, phrase in everything() if phrase.text not in drawn and phrase.ages[1] >= 3]
    assert len(never) < 0.05 * len(everything()), never


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(list(COUNTS)),
    age=st.integers(-1, 130),
    facts=st.sets(st.sampled_from(sorted(FACTS))),
    count=st.integers(0, 5),
    seed=st.integers(0, 10**6),
    share_without=st.floats(0, 1),
)
def test_whatever_the_facts_a_drawn_phrase_fits_them(
    name: str, age: int, facts: set[str], count: int, seed: int, share_without: float
) -> None:
    phrases = {phrase.text: phrase for phrase in load_phrases(name)}
    without = [*list(phrases)[: int(share_without * len(phrases))], "no such phrase", None]
    known = set(facts)
    drawn = draw_phrases(name, count, age, known, rng_for(seed, "t", name), without)
    for text in drawn:
        assert text not in without
        assert phrases[text].fits(age, facts)
        facts |= phrases[text].gives
    assert known == facts
    assert len(set(drawn)) == len(drawn) <= count
    left = [text for text, phrase in phrases.items() if text not in {*drawn, *without} and phrase.fits(age, facts)]
    assert len(drawn) == count or not left


def test_all_that_fit_are_drawn_and_those_for_the_situation_three_times_as_often() -> None:
    facts = {"new_baby", "partnered", "worker", "good_english"}
    fitting = [phrase for phrase in load_phrases("personal_time") if phrase.fits(30, facts)]
    telling = {phrase.text for phrase in fitting if phrase.needs & TELLING_FACTS}
    assert len(telling) == 2
    draws, rng = 20_000, rng_for(0, "t", "weights")
    counts = Counter(draw_phrases("personal_time", 1, 30, set(facts), rng)[0] for _ in range(draws))
    assert set(counts) == {phrase.text for phrase in fitting}
    for phrase in fitting:
        expected = draws * (3 if phrase.text in telling else 1) / (len(fitting) + 2 * len(telling))
        assert abs(counts[phrase.text] - expected) < 5 * expected**0.5, phrase.text


def test_a_draw_depends_on_the_generator_only() -> None:
    """Neither on the order in which the facts came to be known nor on draws before it."""
    names = sorted(RECORD_FACTS - {"disability", "institution", "group_quarters"})
    backward: set[str] = set()
    for name in reversed(names):
        backward.add(name)
    first = draw_phrases("mannerisms", 3, 44, set(names), rng_for(5, "t", "x"))
    draw_phrases("mannerisms", 3, 20, set(), rng_for(6, "t", "y"))
    assert draw_phrases("mannerisms", 3, 44, backward, rng_for(5, "t", "x")) == first


def test_what_a_phrase_gives_keeps_its_opposite_away() -> None:
    facts = {"early_riser"}
    drawn = draw_phrases("defining_quirks", 300, 40, facts, np.random.Generator(np.random.PCG64(0)))
    assert "Is the first awake in the building" in drawn
    assert "Does the best thinking after midnight" not in drawn
    assert "night_owl" not in facts
