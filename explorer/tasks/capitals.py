"""Capitals of countries: a fact to recall. The distractor is the capital of the next country of the list."""

from __future__ import annotations

from pathlib import Path

from explorer.tasks.base import Splits
from explorer.tasks.spec import Row, TaskSpec, split_rows

# Alphabetical; without countries whose capital is disputed, recently moved, or named in the country's own name.
CAPITALS = {
    "Afghanistan": "Kabul",
    "Albania": "Tirana",
    "Angola": "Luanda",
    "Argentina": "Buenos Aires",
    "Armenia": "Yerevan",
    "Australia": "Canberra",
    "Austria": "Vienna",
    "Azerbaijan": "Baku",
    "Bangladesh": "Dhaka",
    "Belarus": "Minsk",
    "Belgium": "Brussels",
    "Bosnia and Herzegovina": "Sarajevo",
    "Brazil": "Brasília",
    "Bulgaria": "Sofia",
    "Cambodia": "Phnom Penh",
    "Cameroon": "Yaoundé",
    "Canada": "Ottawa",
    "Chad": "N'Djamena",
    "Chile": "Santiago",
    "China": "Beijing",
    "Colombia": "Bogotá",
    "Costa Rica": "San José",
    "Croatia": "Zagreb",
    "Cuba": "Havana",
    "Cyprus": "Nicosia",
    "Denmark": "Copenhagen",
    "Ecuador": "Quito",
    "Egypt": "Cairo",
    "Estonia": "Tallinn",
    "Ethiopia": "Addis Ababa",
    "Fiji": "Suva",
    "Finland": "Helsinki",
    "France": "Paris",
    "Germany": "Berlin",
    "Ghana": "Accra",
    "Greece": "Athens",
    "Haiti": "Port-au-Prince",
    "Honduras": "Tegucigalpa",
    "Hungary": "Budapest",
    "Iceland": "Reykjavik",
    "India": "New Delhi",
    "Iran": "Tehran",
    "Iraq": "Baghdad",
    "Ireland": "Dublin",
    "Italy": "Rome",
    "Jamaica": "Kingston",
    "Japan": "Tokyo",
    "Jordan": "Amman",
    "Kenya": "Nairobi",
    "Laos": "Vientiane",
    "Latvia": "Riga",
    "Lebanon": "Beirut",
    "Libya": "Tripoli",
    "Lithuania": "Vilnius",
    "Madagascar": "Antananarivo",
    "Malaysia": "Kuala Lumpur",
    "Mali": "Bamako",
    "Malta": "Valletta",
    "Moldova": "Chișinău",
    "Mongolia": "Ulaanbaatar",
    "Morocco": "Rabat",
    "Mozambique": "Maputo",
    "Namibia": "Windhoek",
    "Nepal": "Kathmandu",
    "New Zealand": "Wellington",
    "Nicaragua": "Managua",
    "Nigeria": "Abuja",
    "North Korea": "Pyongyang",
    "Norway": "Oslo",
    "Oman": "Muscat",
    "Pakistan": "Islamabad",
    "Paraguay": "Asunción",
    "Peru": "Lima",
    "Poland": "Warsaw",
    "Portugal": "Lisbon",
    "Qatar": "Doha",
    "Romania": "Bucharest",
    "Russia": "Moscow",
    "Saudi Arabia": "Riyadh",
    "Senegal": "Dakar",
    "Serbia": "Belgrade",
    "Slovakia": "Bratislava",
    "Slovenia": "Ljubljana",
    "Somalia": "Mogadishu",
    "South Korea": "Seoul",
    "Spain": "Madrid",
    "Sudan": "Khartoum",
    "Sweden": "Stockholm",
    "Switzerland": "Bern",
    "Syria": "Damascus",
    "Thailand": "Bangkok",
    "Turkey": "Ankara",
    "Uganda": "Kampala",
    "Ukraine": "Kyiv",
    "Uruguay": "Montevideo",
    "Uzbekistan": "Tashkent",
    "Venezuela": "Caracas",
    "Vietnam": "Hanoi",
    "Zambia": "Lusaka",
    "Zimbabwe": "Harare",
    "the Czech Republic": "Prague",
    "the Netherlands": "Amsterdam",
    "the Philippines": "Manila",
    "the United Kingdom": "London",
}


def _read(seed: int, data: Path | None) -> Splits[Row]:
    capitals = list(CAPITALS.values())
    following = [*capitals[1:], capitals[0]]
    rows = [
        Row({"country": country}, f" {capital}", distractor=f" {other}")
        for (country, capital), other in zip(CAPITALS.items(), following, strict=True)
    ]
    return split_rows(rows, seed)


COUNTRY_CAPITALS = TaskSpec(
    "capitals", "Capitals of countries", "The capital of {country} is", placeholders=("country",), read=_read
)
