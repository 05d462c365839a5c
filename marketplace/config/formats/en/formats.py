"""How the consoles write times: as Django does in English, with the time zone that they are of."""

DATETIME_FORMAT = "N j, Y, H:i e"
