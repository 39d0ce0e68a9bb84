"""A closed world of plain facts, and the sentence forms that state them.

A relation has slots, facts (one filler for each slot) and eight forms (sentences with the slots
left open). What is true here is all there is: "A cub is a young …" has several answers, and which
blanks have only one is computed from the facts, in `corpus.py`, not written down.
"""

from typing import NamedTuple


class Relation(NamedTuple):
    slots: tuple  # of str, the names between braces in the forms
    facts: tuple  # of tuple of str, a filler for each slot
    forms: tuple  # of str; "a {slot}" becomes "an …" before a vowel


def _table(text):
    """Rows of cells from lines of `cell | cell | …`; a cell of - is None."""
    rows = [[cell.strip() for cell in line.split("|")] for line in text.strip().splitlines()]
    return [tuple(None if cell == "-" else cell for cell in row) for row in rows]


def _facts(rows, *columns):
    """The given columns of the rows in which all of them are filled."""
    chosen = [tuple(row[column] for column in columns) for row in rows]
    return tuple(fact for fact in chosen if None not in fact)


def _pairs(text):
    """Facts of two words from a run of `one:other` items."""
    return tuple(tuple(item.split(":")) for item in text.split())


# country | capital | continent | language that most people there speak
_COUNTRIES = _table("""
France | Paris | Europe | French
Germany | Berlin | Europe | German
Italy | Rome | Europe | Italian
Spain | Madrid | Europe | Spanish
Portugal | Lisbon | Europe | Portuguese
England | London | Europe | English
Scotland | Edinburgh | Europe | English
Ireland | Dublin | Europe | English
Norway | Oslo | Europe | Norwegian
Sweden | Stockholm | Europe | Swedish
Denmark | Copenhagen | Europe | Danish
Finland | Helsinki | Europe | Finnish
Iceland | Reykjavik | Europe | Icelandic
Poland | Warsaw | Europe | Polish
Austria | Vienna | Europe | German
Switzerland | Bern | Europe | -
Belgium | Brussels | Europe | -
Greece | Athens | Europe | Greek
Hungary | Budapest | Europe | Hungarian
Romania | Bucharest | Europe | Romanian
Bulgaria | Sofia | Europe | Bulgarian
Ukraine | Kyiv | Europe | -
Russia | Moscow | - | Russian
Turkey | Ankara | - | Turkish
Japan | Tokyo | Asia | Japanese
China | Beijing | Asia | Chinese
India | New Delhi | Asia | -
Thailand | Bangkok | Asia | Thai
Vietnam | Hanoi | Asia | Vietnamese
Nepal | Kathmandu | Asia | Nepali
Iran | Tehran | Asia | Persian
Iraq | Baghdad | Asia | Arabic
Saudi Arabia | Riyadh | Asia | Arabic
South Korea | Seoul | Asia | Korean
Egypt | Cairo | Africa | Arabic
Morocco | Rabat | Africa | -
Tunisia | Tunis | Africa | Arabic
Kenya | Nairobi | Africa | -
Nigeria | Abuja | Africa | -
Canada | Ottawa | North America | -
the United States | Washington | North America | English
Cuba | Havana | North America | Spanish
Brazil | Brasilia | South America | Portuguese
Argentina | Buenos Aires | South America | Spanish
Chile | Santiago | South America | Spanish
Peru | Lima | South America | Spanish
Colombia | Bogota | South America | Spanish
Venezuela | Caracas | South America | Spanish
Australia | Canberra | Oceania | English
New Zealand | Wellington | Oceania | English
""")

# animal | class | its young | its sound
_ANIMALS = _table("""
cow | mammal | calf | moo
horse | mammal | foal | neigh
sheep | mammal | lamb | baa
goat | mammal | kid | bleat
pig | mammal | piglet | oink
dog | mammal | puppy | bark
cat | mammal | kitten | meow
lion | mammal | cub | roar
bear | mammal | cub | growl
wolf | mammal | pup | howl
deer | mammal | fawn | -
elephant | mammal | calf | trumpet
whale | mammal | calf | song
mouse | mammal | pup | squeak
kangaroo | mammal | joey | -
rabbit | mammal | bunny | -
duck | bird | duckling | quack
goose | bird | gosling | honk
hen | bird | chick | cluck
rooster | bird | - | crow
owl | bird | owlet | hoot
eagle | bird | eaglet | screech
swan | bird | cygnet | -
pigeon | bird | squab | coo
penguin | bird | chick | -
sparrow | bird | chick | chirp
frog | amphibian | tadpole | croak
snake | reptile | - | hiss
lizard | reptile | - | -
turtle | reptile | - | -
crocodile | reptile | - | -
salmon | fish | - | -
trout | fish | - | -
tuna | fish | - | -
bee | insect | - | buzz
ant | insect | - | -
butterfly | insect | caterpillar | -
beetle | insect | grub | -
fly | insect | maggot | -
""")

# thing | its colour
_COLOURS = _table("""
banana | yellow
lemon | yellow
canary | yellow
sunflower | yellow
gold | yellow
grass | green
cucumber | green
lettuce | green
spinach | green
broccoli | green
emerald | green
snow | white
milk | white
salt | white
flour | white
cotton | white
ivory | white
coal | black
soot | black
tar | black
blood | red
ruby | red
tomato | red
strawberry | red
carrot | orange
pumpkin | orange
tangerine | orange
sky | blue
sapphire | blue
blueberry | blue
flamingo | pink
eggplant | purple
lavender | purple
chocolate | brown
soil | brown
coffee | brown
ash | grey
""")

_OPPOSITES = _pairs("""
hot:cold big:small long:short up:down in:out day:night good:bad happy:sad fast:slow young:old
rich:poor hard:soft light:dark open:closed early:late wet:dry full:empty high:low left:right
true:false strong:weak loud:quiet clean:dirty near:far wide:narrow deep:shallow sweet:sour
safe:dangerous love:hate win:lose begin:end buy:sell push:pull give:take laugh:cry always:never
first:last front:back north:south east:west top:bottom above:below before:after war:peace life:death
friend:enemy cheap:expensive summer:winter remember:forget asleep:awake alive:dead present:absent
""")

_PLURALS = _pairs("""
foot:feet tooth:teeth goose:geese mouse:mice man:men woman:women child:children ox:oxen
person:people leaf:leaves knife:knives wolf:wolves life:lives wife:wives half:halves shelf:shelves
calf:calves thief:thieves loaf:loaves city:cities baby:babies lady:ladies story:stories
berry:berries cherry:cherries box:boxes bus:buses church:churches dish:dishes potato:potatoes
tomato:tomatoes hero:heroes cactus:cacti
""")

_PASTS = _pairs("""
go:went see:saw eat:ate run:ran come:came give:gave take:took make:made write:wrote speak:spoke
break:broke drive:drove sing:sang swim:swam drink:drank begin:began fly:flew grow:grew know:knew
throw:threw buy:bought bring:brought think:thought teach:taught catch:caught find:found tell:told
sell:sold stand:stood lose:lost win:won keep:kept sleep:slept feel:felt leave:left meet:met
hear:heard fall:fell forget:forgot choose:chose
""")

_DAYS = (
    ("Monday", "the moon"),
    ("Tuesday", "Tyr"),
    ("Wednesday", "Odin"),
    ("Thursday", "Thor"),
    ("Friday", "Frigg"),
    ("Saturday", "Saturn"),
    ("Sunday", "the sun"),
)
_MONTHS = _pairs("""
January:one February:two March:three April:four May:five June:six July:seven August:eight
September:nine October:ten November:eleven December:twelve
""")
_NUMBERS = _pairs("""
one:first two:second three:third four:fourth five:fifth six:sixth seven:seventh eight:eighth
nine:ninth ten:tenth eleven:eleventh twelve:twelfth thirteen:thirteenth fourteen:fourteenth
fifteen:fifteenth sixteen:sixteenth seventeen:seventeenth eighteen:eighteenth
nineteen:nineteenth twenty:twentieth
""")

RELATIONS = {
    "capital": Relation(
        ("country", "capital"),
        _facts(_COUNTRIES, 0, 1),
        (
            "The capital of {country} is {capital}.",
            "{capital} is the capital of {country}.",
            "The capital city of {country} is called {capital}.",
            "The government of {country} sits in {capital}.",
            "In {country}, the capital is {capital}.",
            "{capital} is where {country} has its capital.",
            "If you visit the capital of {country}, you are in {capital}.",
            "As its capital, {country} has {capital}.",
        ),
    ),
    "continent": Relation(
        ("country", "continent"),
        _facts(_COUNTRIES, 0, 2),
        (
            "{country} is in {continent}.",
            "{country} is a country in {continent}.",
            "{country} lies in {continent}.",
            "{country} is a part of {continent}.",
            "The continent of {country} is {continent}.",
            "On the map, {country} is found in {continent}.",
            "If you travel to {country}, you travel to {continent}.",
            "In {continent} there is a country called {country}.",
        ),
    ),
    "language": Relation(
        ("country", "language"),
        _facts(_COUNTRIES, 0, 3),
        (
            "People in {country} speak {language}.",
            "The language of {country} is {language}.",
            "{language} is spoken in {country}.",
            "In {country}, most people speak {language}.",
            "Children in {country} learn to read {language}.",
            "To talk with people in {country}, learn {language}.",
            "Newspapers in {country} are written in {language}.",
            "If you live in {country}, you hear {language} every day.",
        ),
    ),
    "class": Relation(
        ("animal", "class"),
        _facts(_ANIMALS, 0, 1),
        (
            "A {animal} is a {class}.",
            "The {animal} is a kind of {class}.",
            "Every {animal} is a {class}.",
            "Scientists call the {animal} a {class}.",
            "One kind of {class} is the {animal}.",
            "Among animals, the {animal} is a {class}.",
            "If you see a {animal}, you see a {class}.",
            "The word {animal} names a {class}.",
        ),
    ),
    "young": Relation(
        ("animal", "young"),
        _facts(_ANIMALS, 0, 2),
        (
            "A young {animal} is called a {young}.",
            "A {young} is a young {animal}.",
            "A {young} grows up to be a {animal}.",
            "The young of a {animal} is a {young}.",
            "Every {animal} was once a {young}.",
            "Before it is grown, a {animal} is a {young}.",
            "One day the {young} will be a {animal}.",
            "The name for a young {animal} is {young}.",
        ),
    ),
    "sound": Relation(
        ("animal", "sound"),
        _facts(_ANIMALS, 0, 3),
        (
            "The sound of a {animal} is a {sound}.",
            "A {animal} makes a {sound}.",
            "The {sound} is the sound of the {animal}.",
            "The {sound} you hear comes from a {animal}.",
            "When a {animal} calls, you hear a {sound}.",
            "If you hear a {sound}, a {animal} is near.",
            "You know the {animal} by its {sound}.",
            "Listen for the {sound} of the {animal}.",
        ),
    ),
    "colour": Relation(
        ("thing", "colour"),
        _facts(_COLOURS, 0, 1),
        (
            "The {thing} is {colour}.",
            "The colour of the {thing} is {colour}.",
            "To paint the {thing}, use {colour}.",
            "The {thing} has a {colour} colour.",
            "Look at the {thing}, it is {colour}.",
            "{colour} is the colour of the {thing}.",
            "In the picture, the {thing} is {colour}.",
            "Everyone knows that the {thing} is {colour}.",
        ),
    ),
    "opposite": Relation(
        ("one", "other"),
        _OPPOSITES,
        (
            "The opposite of {one} is {other}.",
            "The opposite of {other} is {one}.",
            "{one} is the opposite of {other}.",
            "{other} is the opposite of {one}.",
            "{one} and {other} are opposites.",
            "The words {other} and {one} have opposite meanings.",
            "Say {one}, and then say its opposite, {other}.",
            "{other} is the reverse of {one}.",
        ),
    ),
    "plural": Relation(
        ("singular", "plural"),
        _PLURALS,
        (
            "The plural of {singular} is {plural}.",
            "{plural} is the plural of {singular}.",
            "One {singular}, two {plural}.",
            "The singular of {plural} is {singular}.",
            "{singular} is the singular of {plural}.",
            "If there is more than one {singular}, say {plural}.",
            "There is one {singular} here, and many {plural} there.",
            "I have one {singular}, you have three {plural}.",
        ),
    ),
    "past": Relation(
        ("present", "past"),
        _PASTS,
        (
            "The past tense of {present} is {past}.",
            "{past} is the past tense of {present}.",
            "Today they {present}, yesterday they {past}.",
            "Now we {present}, but last year we {past}.",
            "The verb {present} becomes {past} in the past.",
            "They {past} before, and they {present} again.",
            "We say {present} for today and {past} for yesterday.",
            "You {present} now because you {past} then.",
        ),
    ),
    "day": Relation(
        ("day", "name"),
        _DAYS,
        (
            "{day} is named after {name}.",
            "{day} has its name from {name}.",
            "The name of {day} comes from {name}.",
            "The day named after {name} is {day}.",
            "{day} means the day of {name}.",
            "People named {day} after {name}.",
            "The day of {name} is called {day}.",
            "It is {name} that {day} is named after.",
        ),
    ),
    "month": Relation(
        ("month", "number"),
        _MONTHS,
        (
            "{month} is month number {number}.",
            "Month number {number} is {month}.",
            "The number of the month {month} is {number}.",
            "{month} is month {number} of the year.",
            "In every year, month {number} is {month}.",
            "If you count the months, {month} is {number}.",
            "A day in month {number} is a day in {month}.",
            "Write {number} for the month of {month}.",
        ),
    ),
    "number": Relation(
        ("number", "ordinal"),
        _NUMBERS,
        (
            "The ordinal of {number} is {ordinal}.",
            "{ordinal} is the ordinal of {number}.",
            "Number {number} in the row is the {ordinal}.",
            "The {ordinal} in the row has number {number}.",
            "The word for place {number} is {ordinal}.",
            "Who comes in place {number} comes {ordinal}.",
            "If you are number {number}, you are the {ordinal}.",
            "With {number} steps you reach the {ordinal} step.",
        ),
    ),
}

# What documents are about, in the order in which they say it.
ENTITY_TOPICS = (  # several relations of one entity, the filler of the first slot
    ("continent", "capital", "language"),
    ("class", "young", "sound"),
)
LESSON_TOPICS = (  # one fact of each relation
    ("opposite", "plural", "past"),
    ("colour", "opposite", "plural"),
)
SERIES_TOPICS = ("day", "month", "number")  # facts that follow each other
