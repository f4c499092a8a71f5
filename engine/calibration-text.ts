/**
 * What graphs that encode in 8 bits are measured over: kinds of text that documents are made of. Blocks depend on it, so a
 * change of it needs another `ENCODER_VERSION`.
 */
export const CALIBRATION_TEXT = `The lighthouse on the northern cape was lit for the first time on 14 October 1871, after three years of work. Its keeper, \
Ingrid Solberg, wrote down the weather every four hours: wind, cloud, the height of the sea. In 1904 the lamp was changed from oil to gas, and the light \
could be seen 19 miles away. "Nobody who has seen the winter here", she said, "asks why we need it."

# Installing

1. Unpack the archive: \`tar xzf tool-2.4.1.tar.gz\`.
2. Run \`make install PREFIX=/usr/local\`; it takes about 40 seconds.

| size | price | in stock |
| --- | --- | --- |
| small | 4.50 | 120 |
| large | 11.95 | 0 |

def mean(values: list[float]) -> float:
    """The arithmetic mean; an empty list has none."""
    if not values:
        raise ValueError("no values")
    return sum(values) / len(values)

Die Messung ergab 37,2 °C; am nächsten Tag waren es 36,8 °C. La réunion est reportée à mardi, à 9 h 30. 東京の人口は約1,400万人です。`;

/** Tokens of it that are measured. */
export const CALIBRATION_TOKENS = 256;
