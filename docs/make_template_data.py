"""Writes the data of the templates, ``assets/templates/data``, from the sentences below.

The rows are invented: shops, people and ferries do not exist. Test rows use sentences that occur in no training row.
Run ``python docs/make_template_data.py``; the same script always writes the same files.
"""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
FOLDER = Path(__file__).resolve().parents[1] / "assets" / "templates" / "data"

# ---------------------------------------------------------------- messages to a shop, and their topic

PRODUCTS = [
    "desk lamp",
    "rain jacket",
    "coffee grinder",
    "backpack",
    "wireless mouse",
    "garden hose",
    "water kettle",
    "yoga mat",
    "bookshelf",
    "bicycle light",
    "frying pan",
    "office chair",
    "winter boots",
    "bluetooth speaker",
    "tent",
    "picture frame",
]
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "last week", "two weeks ago")

TICKETS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "billing": (
        (
            "I was charged twice for the {product}. Please send one amount back.",
            "The invoice for my {product} shows the wrong company name.",
            "Why does my card statement show a higher price than the {product} had on {day}?",
            "My discount code was accepted, but the bill for the {product} is at full price.",
            "Could you send me a receipt for the {product} that I bought on {day}?",
            "The payment for the {product} failed, yet the money has left my account.",
            "I paid by bank transfer on {day} and still got a payment reminder.",
            "Can I pay for the {product} in three instalments?",
        ),
        (
            "There are two debits for the same {product} on my bank statement.",
            "I need a corrected invoice for the {product}; the tax number is missing.",
            "You took the money for the {product} on {day}, but I never got a receipt.",
        ),
    ),
    "delivery": (
        (
            "My {product} should have arrived on {day}. Where is it?",
            "The tracking page has not changed since {day}.",
            "The courier left the {product} with a neighbour I do not know.",
            "Can you send the {product} to my office instead of my home?",
            "The parcel with the {product} was left in the rain.",
            "How long does shipping of a {product} to Norway take?",
            "I will be away on {day}. Can the {product} come a day later?",
            "Only half of my parcel came; the {product} is missing from it.",
        ),
        (
            "I am still waiting for the {product} that was shipped on {day}.",
            "The driver says that he rang on {day}, but nobody was here. When will he try again?",
            "Which courier brings the {product}, and at what time?",
        ),
    ),
    "return": (
        (
            "The {product} is too small. How can I send it back?",
            "I would like to exchange the {product} for another colour.",
            "I changed my mind about the {product} and want to return it.",
            "The {product} that came on {day} is broken. Please take it back.",
            "How many days do I have to return a {product}?",
            "I lost the return label for the {product}. Can you send a new one?",
            "I sent the {product} back on {day}. Has it reached you?",
            "Do I need the original box to return the {product}?",
        ),
        (
            "The {product} does not suit us. Where do I send it back to?",
            "Please swap the {product} for a larger one; I have not used it.",
            "Is sending a {product} back free of charge?",
        ),
    ),
    "account": (
        (
            "I cannot log in since {day}; the page says that my password is wrong.",
            "Please delete my account and all data you hold about me.",
            "How do I change the e-mail address of my account?",
            "The link to reset my password never arrives.",
            "Someone else seems to use my account. Please lock it.",
            "My old phone number is still in my profile. How can I change it?",
            "I have two accounts by mistake. Can you merge them?",
            "Please stop the newsletter that I get since {day}.",
        ),
        (
            "The site asks for a code on sign-in, but no message with a code comes.",
            "I want to close my customer profile.",
            "My user name is misspelled. Where can I correct it?",
        ),
    ),
    "product": (
        (
            "Is the {product} also available in green?",
            "What is the {product} made of?",
            "Does the {product} come with a warranty of two years?",
            "How heavy is the {product}?",
            "When will the {product} be in stock again?",
            "Can I use the {product} outdoors in winter?",
            "Which size of the {product} fits a tall person?",
            "Is there a manual for the {product} in French?",
        ),
        (
            "How wide is the {product}, and how much does it weigh?",
            "Do you have spare parts for the {product}?",
            "Would the {product} be suitable for a child of ten?",
        ),
    ),
}


def tickets(rng: random.Random, test: bool, each: int) -> list[dict[str, str]]:
    """``each`` different messages for every label, in mixed order."""
    rows = []
    for label, sentences in TICKETS.items():
        seen: set[str] = set()
        while len(seen) < each:
            pattern = pick(rng, sentences[test])
            text = pattern.format(product=pick(rng, PRODUCTS), day=pick(rng, DAYS))
            text = pick(rng, ("", "", "Hello. ", "Hi! ", "Good morning. ")) + text
            text += pick(rng, ("", "", " Thank you.", " Thanks in advance!", " Regards, Jo"))
            if text not in seen:
                seen.add(text)
                rows.append({"text": text, "label": label})
    return mixed(rng, rows)


# ---------------------------------------------------------------- orders by e-mail, and their JSON

NAMES = [
    "Ada Berg",
    "Tom Okafor",
    "Lena Schulz",
    "Marco Rossi",
    "Priya Nair",
    "Jonas Lind",
    "Sofia Costa",
    "Omar Haddad",
    "Emily Clark",
    "Yuki Mori",
    "Pavel Novak",
    "Chloe Martin",
    "Sam Reid",
    "Ines Prado",
]
GOODS = [
    "sourdough loaves",
    "rye rolls",
    "apple tarts",
    "cinnamon buns",
    "oat cookies",
    "baguettes",
    "cheese sticks",
    "plum cakes",
    "pretzels",
    "lemon muffins",
]
WEEK = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
ORDERS = (
    (
        "Hi, could I get {quantity} {item} for {day}? Thanks, {name}",
        "Dear bakery, please keep {quantity} {item} for me. I will come on {day}. {name}",
        "This is {name}. We need {quantity} {item} on {day} morning.",
        "Hello! {quantity} {item}, please. Pick-up {day}. Best, {name}",
        "{name} here: can you have {quantity} {item} ready by {day}?",
        "For our party on {day} I would like to order {quantity} {item}. Kind regards, {name}",
        "Good morning, I'd like {quantity} {item}. Is {day} possible? {name}",
        "Please note an order for {name}: {quantity} {item}, to be collected on {day}.",
    ),
    (
        "Hello, my name is {name}. On {day} I want to fetch {quantity} {item}.",
        "Would it be possible to reserve {quantity} {item}? I can be there on {day}. Yours, {name}",
        "{day} would be good for us. {quantity} {item}, please! {name}",
    ),
)
ORDER_TASK = "Write this order as JSON with the keys name, item, quantity and day."


def orders(rng: random.Random, test: bool, count: int) -> list[dict[str, str]]:
    """Different orders with the JSON that belongs to each."""
    rows: dict[str, dict[str, str]] = {}
    while len(rows) < count:
        order = {
            "name": pick(rng, NAMES),
            "item": pick(rng, GOODS),
            "quantity": 2 + int(rng.random() * 28),
            "day": pick(rng, WEEK),
        }
        text = pick(rng, ORDERS[test]).format(**order)
        rows[text] = {"instruction": ORDER_TASK, "input": text, "output": json.dumps(order)}
    return list(rows.values())


# ---------------------------------------------------------------- answers in the tone of one person

GREETINGS = ("Hello Ana, {q}", "{Q}", "Quick question: {q}", "Hi! {Q}")
OPENINGS = ("Happy to help!", "Good question.", "No worries at all.", "Glad you asked.")
ANSWER_END = "Ride safe, Ana"
TONE = (
    (
        "how often should I oil my chain?",
        "Every 150 km is plenty, and after each ride in the rain. Wipe it dry first, one drop "
        "per link, wipe again.",
    ),
    (
        "what tyre pressure do I need for a city bike?",
        "Start at 4 bar and press with your thumb. It should give just a little. Add half a bar "
        "if you carry shopping.",
    ),
    (
        "my brakes squeak. What can I do?",
        "Nine times out of ten it is dirt. Clean the rims with warm water and a drop of soap. "
        "Still loud? Bring it by.",
    ),
    (
        "can you fix a flat tyre today?",
        "Yes, come before five and you ride home on it. It takes us twenty minutes. Coffee is on "
        "the house.",
    ),
    (
        "do you sell used bikes?",
        "We do, about ten at a time. All checked, all with a year of warranty. Have a look on "
        "Saturday, that is when new ones come in.",
    ),
    (
        "which lock should I buy?",
        "Take a folding lock and spend a tenth of what your bike cost. Always lock the frame. "
        "Wheels walk away, frames should not.",
    ),
    (
        "how do I set my saddle height?",
        "Sit down and put your heel on the pedal. Your leg should be straight. Then your knees "
        "will thank you.",
    ),
    (
        "when is the best time for a service?",
        "Late winter, before everyone else remembers. You wait two days instead of two weeks. "
        "Just give us a call.",
    ),
    (
        "my gears jump. Is that expensive?",
        "Mostly it is a cable that has stretched. That is ten minutes and a small tip for the "
        "coffee jar. Let me look at it first.",
    ),
    (
        "can I ride my e-bike in the rain?",
        "You can, it is built for that. Just keep the hose away from the motor. Dry the plug "
        "before you charge.",
    ),
    (
        "how long does an e-bike battery last?",
        "Five years if you treat it kindly. Keep it between a fifth and four fifths, and never "
        "leave it in the frost.",
    ),
    (
        "do you repair children's bikes?",
        "Of course, and they go first. A child without a bike is a sad thing. Come any afternoon.",
    ),
    (
        "what size of frame do I need?",
        "Stand over the bar. You want two fingers of room. Better still, try three sizes here "
        "and trust your back.",
    ),
    (
        "is it worth repairing my old bike?",
        "If the frame is straight, nearly always. I make a list with prices and you pick. No "
        "hard feelings if you say no.",
    ),
    (
        "do I need a helmet?",
        "I wear mine every day. Try a few on, the right one disappears on your head. Replace it "
        "after any fall.",
    ),
    (
        "can you pick up my bike from home?",
        "We can, on Tuesdays and Thursdays. Send me your street and a time. The trip is free "
        "within the town.",
    ),
    (
        "how do I clean my bike?",
        "Warm water, a soft brush, and ten quiet minutes. Leave the pressure washer in the "
        "garage. Oil the chain after.",
    ),
    (
        "what should I carry on a long tour?",
        "A tube, two levers, a small pump and something sweet. The rest is luxury. Ask for our "
        "packing card.",
    ),
    (
        "do you rent out cargo bikes?",
        "We have two, by the hour or by the day. Book before the weekend, they are popular. A "
        "short lesson comes with it.",
    ),
    (
        "my lights keep failing. Why?",
        "Look at the plug behind the lamp, it likes to rust. Clean it and push it back in. If "
        "that does not help, I have spares.",
    ),
    (
        "can I bring parts that I bought online?",
        "You can, and I will fit them. I only ask you to check the size first. A photo saves us "
        "both a trip.",
    ),
    (
        "how do I keep my bike over winter?",
        "Dry, clean and with full tyres. Hang it up if you can. Take the battery inside, it "
        "feels the cold too.",
    ),
    (
        "which pump do you recommend?",
        "A floor pump with a gauge, nothing fancy. It lasts twenty years. Ours by the door is "
        "free to use.",
    ),
    (
        "do you take old bikes in exchange?",
        "Yes, if it still rolls we find it a new home. Bring it along and we agree on a price. "
        "It is quick.",
    ),
)


def tone() -> list[dict[str, object]]:
    """Every question in four forms, with answers of one style; ``topic`` groups them."""
    rows = []
    for number in range(len(GREETINGS)):
        for topic, (question, answer) in enumerate(TONE):
            style = (number + topic) % len(GREETINGS)
            asked = GREETINGS[style].format(q=question, Q=question[0].upper() + question[1:])
            opening = OPENINGS[(number * 3 + topic) % len(OPENINGS)]
            messages = [
                {"role": "user", "content": asked},
                {"role": "assistant", "content": f"{opening} {answer} {ANSWER_END}"},
            ]
            rows.append({"topic": f"topic {topic + 1}", "messages": messages})
    return rows


# ---------------------------------------------------------------- a handbook, and questions about it

FERRIES = (
    # name, from, to, cars, seats, built, colour, captain, first departure, minutes
    ("Alba", "Lindholm", "Skerry", 24, 120, 1988, "red", "Mara Lind", "06:10", 35),
    ("Brisa", "Lindholm", "Tarn Island", 40, 200, 2004, "white", "Erik Dahl", "06:45", 50),
    ("Corvin", "Skerry", "Noss", 12, 80, 1979, "green", "Ida Holm", "07:00", 20),
    ("Dunlin", "Noss", "Lindholm", 30, 150, 1996, "blue", "Per Strand", "05:50", 45),
    ("Eider", "Tarn Island", "Outer Fell", 8, 60, 1971, "yellow", "Nora Vik", "08:15", 65),
    ("Fulmar", "Lindholm", "Outer Fell", 55, 260, 2015, "grey", "Jon Berg", "09:00", 80),
    ("Gannet", "Skerry", "Tarn Island", 18, 110, 1990, "orange", "Liv Sand", "06:30", 40),
    ("Heron", "Noss", "Outer Fell", 22, 140, 2001, "black", "Olav Ness", "07:40", 70),
    ("Isbjorn", "Lindholm", "North Quay", 60, 300, 2019, "silver", "Tove Haug", "05:30", 25),
    ("Jackdaw", "North Quay", "Noss", 16, 90, 1984, "brown", "Geir Foss", "10:20", 55),
)
FERRY_RULES = (
    "Before each departure the deck officer counts the passengers twice and writes both numbers "
    "into the log. If they differ, the ferry waits.",
    "Cars are loaded from the middle outwards. Lorries stand over the keel. Nobody stays in a "
    "car during the crossing.",
    "A ferry does not sail when the wind at the harbour mast is above 18 metres per second for "
    "ten minutes. The captain alone decides when it sails again.",
    "Bicycles travel free of charge and are tied to the rail on the left side. Electric bicycles "
    "are switched off.",
    "Dogs are welcome on the open deck and in the rear saloon. They are kept on a lead.",
    "Life jackets lie under every second seat. Those for children hang beside the door of the "
    "saloon.",
    "Lost things are kept for four weeks in the office on the quay, and are then given to the "
    "seamen's home.",
    "The kitchen closes ten minutes before arrival. Soup is served all day, fish only on Fridays.",
    "Tickets are sold on board. A return ticket is valid for three days, and a ticket for ten "
    "crossings for a year.",
    "The engine is inspected every 250 hours. The engineer signs the sheet, and the captain "
    "reads it before the next trip.",
)
FACTS = (
    ("On which route does the {0} sail?", "The {0} sails from {1} to {2}."),
    ("How many cars does the {0} carry?", "The {0} carries {3} cars."),
    ("How many seats does the {0} have?", "The {0} has {4} seats."),
    ("When was the {0} built?", "The {0} was built in {5}."),
    ("What colour is the {0}?", "The {0} is {6}."),
    ("Who is the captain of the {0}?", "The captain of the {0} is {7}."),
    ("When does the {0} first depart?", "The {0} first departs at {8}."),
    ("How long does a crossing with the {0} take?", "A crossing with the {0} takes {9} minutes."),
)
PARAGRAPHS = (
    "The {0} sails from {1} to {2}. A crossing with the {0} takes {9} minutes. The {0} first "
    "departs at {8}.",
    "The {0} was built in {5}. The {0} is {6}, so that it is seen from far away, and carries {3} "
    "cars. The {0} has {4} seats.",
    "The captain of the {0} is {7}. On mornings with fog {7} asks the harbour of {2} for the "
    "view before the {0} leaves {1} at {8}.",
    "From {1} one reaches {2} with the {0} in {9} minutes. The {0} carries {3} cars and has {4} "
    "seats; it was built in {5}.",
    "A traveller who stands on the quay of {1} looks for a ferry that is {6}: the {0}. Its "
    "captain is {7}, and its port of arrival is {2}.",
    "The log of the {0} is kept by {7}. It begins in {5}, the year in which the {0} was built, "
    "and names {1} and {2} as its ports.",
)


def handbook() -> str:
    """The text for continued pretraining: a paragraph per fact or rule."""
    parts = [p.format(*ferry) for p in PARAGRAPHS for ferry in FERRIES]
    for number, rule in enumerate(FERRY_RULES):
        parts.insert(number * 7, rule)
    return "\n\n".join(parts) + "\n"


def ferry_questions(test: bool) -> list[dict[str, str]]:
    """Questions about the handbook; a fifth of the facts is asked in the test only."""
    rows = []
    for number, (question, answer) in enumerate(FACTS):
        for place, ferry in enumerate(FERRIES):
            if ((number * 3 + place) % 5 == 0) == test:
                rows.append({"question": question.format(*ferry), "answer": answer.format(*ferry)})
    return rows


# ---------------------------------------------------------------- files


def pick(rng: random.Random, values: Sequence[T]) -> T:
    """One of the values. Only ``random`` gives the same numbers with every version of Python."""
    return values[int(rng.random() * len(values))]


def mixed(rng: random.Random, rows: Iterable[T]) -> list[T]:
    """The rows in another order."""
    keyed = [(rng.random(), number, row) for number, row in enumerate(rows)]
    return [row for _, _, row in sorted(keyed, key=lambda k: k[:2])]


def lines(rows: Iterable[object]) -> str:
    """JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def table(rows: Sequence[dict[str, str]]) -> str:
    """A CSV file."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def files() -> dict[str, str]:
    """Name and text of every file."""
    rng = random.Random(7)
    return {
        "tickets_train.csv": table(tickets(rng, False, 40)),
        "tickets_test.csv": table(tickets(rng, True, 12)),
        "orders_train.jsonl": lines(orders(rng, False, 200)),
        "orders_test.jsonl": lines(orders(rng, True, 40)),
        "tone.jsonl": lines(tone()),
        "ferry_handbook.md": handbook(),
        "ferry_train.jsonl": lines(mixed(rng, ferry_questions(False))),
        "ferry_test.jsonl": lines(ferry_questions(True)),
    }


def main() -> None:
    """Write all files."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (FOLDER / name).write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
