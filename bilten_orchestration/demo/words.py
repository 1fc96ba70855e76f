"""Names, places and texts of the demo data: invented, and none of a real person."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class City:
    """Tax in hundredths of a percent on top of the price; degrees north and east."""

    name: str
    country: str
    timezone: str
    currency: str
    latitude: float
    longitude: float
    tax: int
    postal_code: str


# The first fifteen hold the extremes, so that the smallest scale has them all.
CITIES = (
    City("Honolulu", "US", "Pacific/Honolulu", "USD", 21.3069, -157.8583, 471, "96813"),
    City("Apia", "WS", "Pacific/Apia", "NZD", -13.8333, -171.7667, 1500, "WS1330"),
    City("Mumbai", "IN", "Asia/Kolkata", "INR", 19.0760, 72.8777, 1800, "400001"),
    City("Kathmandu", "NP", "Asia/Kathmandu", "NPR", 27.7172, 85.3240, 1300, "44600"),
    City("Berlin", "DE", "Europe/Berlin", "EUR", 52.5200, 13.4050, 700, "10115"),
    City("New York", "US", "America/New_York", "USD", 40.7128, -74.0060, 888, "10001"),
    City("Tokyo", "JP", "Asia/Tokyo", "JPY", 35.6762, 139.6503, 1000, "100-0001"),
    City("Kuwait City", "KW", "Asia/Kuwait", "KWD", 29.3759, 47.9774, 0, "13001"),
    City("Sydney", "AU", "Australia/Sydney", "AUD", -33.8688, 151.2093, 1000, "2000"),
    City("London", "GB", "Europe/London", "GBP", 51.5074, -0.1278, 2000, "EC1A 1BB"),
    City("São Paulo", "BR", "America/Sao_Paulo", "BRL", -23.5505, -46.6333, 500, "01000-000"),
    City("Nukuʻalofa", "TO", "Pacific/Tongatapu", "NZD", -21.1394, -175.2018, 1500, "TO01"),
    City("Adelaide", "AU", "Australia/Adelaide", "AUD", -34.9285, 138.6007, 1000, "5000"),
    City("Los Angeles", "US", "America/Los_Angeles", "USD", 34.0522, -118.2437, 950, "90012"),
    City("Auckland", "NZ", "Pacific/Auckland", "NZD", -36.8509, 174.7645, 1500, "1010"),
    City("Paris", "FR", "Europe/Paris", "EUR", 48.8566, 2.3522, 550, "75001"),
    City("Chicago", "US", "America/Chicago", "USD", 41.8781, -87.6298, 1025, "60601"),
    City("Toronto", "CA", "America/Toronto", "CAD", 43.6532, -79.3832, 1300, "M5H 2N2"),
    City("St. John's", "CA", "America/St_Johns", "CAD", 47.5615, -52.7126, 1500, "A1C 1A1"),
    City("Mexico City", "MX", "America/Mexico_City", "MXN", 19.4326, -99.1332, 1600, "06000"),
    City("Cape Town", "ZA", "Africa/Johannesburg", "ZAR", -33.9249, 18.4241, 1500, "8001"),
    City("Dubai", "AE", "Asia/Dubai", "AED", 25.2048, 55.2708, 500, "00000"),
    City("Stockholm", "SE", "Europe/Stockholm", "SEK", 59.3293, 18.0686, 600, "111 20"),
    City("Zürich", "CH", "Europe/Zurich", "CHF", 47.3769, 8.5417, 260, "8001"),
    City("Tunis", "TN", "Africa/Tunis", "TND", 36.8065, 10.1815, 1900, "1000"),
    City("Bengaluru", "IN", "Asia/Kolkata", "INR", 12.9716, 77.5946, 1800, "560001"),
    City("Lisbon", "PT", "Europe/Lisbon", "EUR", 38.7223, -9.1393, 600, "1100-148"),
    City("Vancouver", "CA", "America/Vancouver", "CAD", 49.2827, -123.1207, 500, "V6B 1A1"),
    City("Waitangi", "NZ", "Pacific/Chatham", "NZD", -43.9533, -176.5597, 1500, "8016"),
    City("Osaka", "JP", "Asia/Tokyo", "JPY", 34.6937, 135.5023, 1000, "530-0001"),
)

# About how much of each one US dollar buys, and the step of prices, in minor units.
CURRENCIES: dict[str, tuple[float, int]] = {
    "AED": (3.67, 500),
    "AUD": (1.52, 50),
    "BRL": (5.2, 500),
    "CAD": (1.37, 50),
    "CHF": (0.89, 50),
    "EUR": (0.92, 50),
    "GBP": (0.79, 50),
    "INR": (83.5, 5000),
    "JPY": (151.0, 100),
    "KWD": (0.307, 250),
    "MXN": (17.2, 1000),
    "NPR": (133.0, 5000),
    "NZD": (1.64, 50),
    "SEK": (10.6, 500),
    "TND": (3.11, 500),
    "USD": (1.0, 50),
    "ZAR": (18.4, 500),
}
CODES = tuple(CURRENCIES)
MINOR_UNITS = {code: 0 if code == "JPY" else 3 if code in ("KWD", "TND") else 2 for code in CODES}

FIRST_NAMES = (
    "Ada",
    "Amara",
    "Aiko",
    "Anil",
    "Aroha",
    "Beatriz",
    "Bram",
    "Camille",
    "Chidi",
    "Dana",
    "Diego",
    "Elif",
    "Emma",
    "Farah",
    "Felix",
    "Freya",
    "Giulia",
    "Hana",
    "Hugo",
    "Ines",
    "Ivo",
    "Jamal",
    "Jana",
    "Joon",
    "Kaia",
    "Kiran",
    "Lars",
    "Leilani",
    "Lina",
    "Luca",
    "Maia",
    "Marek",
    "Mei",
    "Milan",
    "Nadia",
    "Noa",
    "Oisin",
    "Olga",
    "Pablo",
    "Priya",
    "Quinn",
    "Rafael",
    "Rosa",
    "Sami",
    "Sana",
    "Sione",
    "Sofia",
    "Taro",
    "Tevita",
    "Thandi",
    "Uma",
    "Vera",
    "Wanjiru",
    "Xenia",
    "Yara",
    "Yusuf",
    "Zane",
    "Zoe",
)
LAST_NAMES = (
    "Abara",
    "Almeida",
    "Andersson",
    "Bauer",
    "Bianchi",
    "Brooks",
    "Carvalho",
    "Chen",
    "Costa",
    "Dahl",
    "Desai",
    "Dubois",
    "Eriksen",
    "Fernandes",
    "Fischer",
    "Fonoti",
    "Garcia",
    "Gurung",
    "Haddad",
    "Hansen",
    "Hayashi",
    "Ibrahim",
    "Iyer",
    "Jansen",
    "Kahale",
    "Kapoor",
    "Keller",
    "Khan",
    "Kimura",
    "Kowalski",
    "Lam",
    "Lindqvist",
    "Lopez",
    "Martin",
    "Mbeki",
    "Moreau",
    "Nakamura",
    "Ngata",
    "Novak",
    "Okafor",
    "Oliveira",
    "Park",
    "Petrov",
    "Quist",
    "Rai",
    "Reyes",
    "Rossi",
    "Sato",
    "Schmidt",
    "Shrestha",
    "Silva",
    "Singh",
    "Tanaka",
    "Taufa",
    "Thapa",
    "Ueda",
    "Vasquez",
    "Weber",
    "Yamada",
    "Zhang",
)
DOMAINS = ("example.org", "example.com", "example.net")

HOUSES = (
    "Lantern",
    "Harbour",
    "Foundry",
    "Meridian",
    "Cedar",
    "Observatory",
    "Saltworks",
    "Juniper",
    "Arcade",
    "Copper",
    "Tideline",
    "Ropewalk",
    "Orchard",
    "Granary",
    "Palmyra",
    "Northlight",
)
HALLS = (
    (180, "Cellar"),
    (400, "Rooms"),
    (900, "Hall"),
    (1_800, "Theatre"),
    (4_500, "Pavilion"),
    (14_000, "Arena"),
)
"""People admitted, and what such a place is called."""
STREETS = (
    "Harbour Street",
    "Mill Lane",
    "Station Road",
    "Garden Avenue",
    "Market Square",
    "Lighthouse Road",
    "Canal Walk",
    "Observatory Hill",
    "Museum Quay",
    "Orchard Row",
)
AMENITIES = (
    "step-free access",
    "parking",
    "cloakroom",
    "bar",
    "hearing loop",
    "air conditioning",
    "terrace",
    "green room",
)

TRADES = ("Live", "Presents", "Events", "Collective", "Productions", "Promotions", "Festivals", "Society")

# category: adjective, subject, form, usual length in hours, usual price in US dollars
CATEGORIES: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], float, float]] = {
    "music": (
        ("Midnight", "Electric", "Golden", "Northern", "Velvet"),
        ("Brass", "Strings", "Synth", "Taiko", "Fado", "Jazz", "Choir"),
        ("Night", "Sessions", "Live", "Tour", "Festival"),
        4.0,
        48.0,
    ),
    "theatre": (
        ("The Last", "A Quiet", "The Winter", "The Paper"),
        ("Garden", "Letter", "Voyage", "Kingdom", "Lighthouse"),
        ("", "Rewritten", "in One Act"),
        2.5,
        39.0,
    ),
    "sport": (
        ("City", "Coastal", "Alpine", "Regional"),
        ("Marathon", "Rowing", "Judo", "Cycling", "Climbing"),
        ("Open", "Cup", "Final", "Challenge"),
        6.0,
        31.0,
    ),
    "conference": (
        ("Open", "Applied", "Practical", "Future of"),
        ("Data", "Cities", "Energy", "Design", "Health"),
        ("Summit", "Days", "Conference", "Forum"),
        9.0,
        210.0,
    ),
    "comedy": (
        ("Slightly", "Hardly", "Almost"),
        ("Famous", "Serious", "Awake", "Local"),
        ("Stand-up", "Revue", "Open Mic"),
        2.0,
        22.0,
    ),
    "food": (
        ("Street", "Harvest", "Slow", "Spice"),
        ("Food", "Wine", "Coffee", "Noodle", "Cheese"),
        ("Market", "Fair", "Tasting", "Weekend"),
        7.0,
        17.0,
    ),
    "workshop": (
        ("Hands-on", "Weekend", "First Steps in"),
        ("Ceramics", "Bookbinding", "Printmaking", "Woodwork", "Photography"),
        ("Workshop", "Course", "Studio"),
        3.0,
        65.0,
    ),
    "family": (
        ("Little", "Wild", "Starry"),
        ("Puppets", "Dinosaurs", "Circus", "Planets"),
        ("Show", "Afternoon", "Adventure"),
        2.0,
        14.0,
    ),
}
TAGS = (
    "outdoor",
    "indoor",
    "standing",
    "seated",
    "all ages",
    "over 18",
    "festival",
    "premiere",
    "matinee",
    "accessible",
    "late night",
    "charity",
)

# name, price against the usual one, share of sales, share of the sales window in which it is offered
TYPES = (
    ("General admission", 1.0, 1.0, 1.0),
    ("Early bird", 0.75, 0.55, 0.35),
    ("VIP", 2.6, 0.12, 1.0),
    ("Student", 0.6, 0.22, 1.0),
    ("Balcony", 1.35, 0.30, 1.0),
    ("Child under 6", 0.0, 0.10, 1.0),
)
LINEUPS = (
    (0,),
    (0, 1),
    (0, 2),
    (0, 1, 2),
    (0, 3, 5),
    (0, 1, 2, 3),
    (0, 2, 4),
    (0, 1, 2, 3, 4),
    (0, 3),
    (0, 4, 5),
)
"""Ticket types an event offers, as numbers into TYPES."""
ADDONS = (
    ("Parking", 12.0),
    ("Programme", 6.0),
    ("Cloakroom", 3.0),
    ("Drinks voucher", 9.5),
    ("T-shirt", 25.0),
)

AGENTS = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1 Mobile Safari/604.1",
    "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 Chrome/131.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/131.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_7) AppleWebKit/605.1.15 Version/18.0 Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0",
)
DEVICES = ("mobile", "mobile", "desktop", "desktop", "desktop")
BOTS = (
    "Mozilla/5.0 (compatible; ExampleBot/2.1; +https://example.org/bot)",
    "ExampleCrawler/1.0 (+https://example.com/crawler)",
    "python-requests/2.32.3",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 HeadlessChrome/131.0.0.0 Safari/537.36",
)
