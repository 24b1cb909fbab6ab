"""What the lesson measures by default: its texts, its windows, and how much is removed."""

FORMAT = "wanda-lesson-1"
SENTENCE = "The sky is blue because sunlight is scattered by the air."
OTHER_SENTENCE = "My grandmother bakes bread on Sundays. It never lasts until Monday."
PROMPT = "The sky is blue because"

SEQ_LEN, WINDOWS = 256, 2  # of every perplexity in the lesson, so that its figures can be compared with each other
DRAWS = 5  # random channels or weights beside a chosen one
READERS = 2  # channels next in size, and as many random ones, whose reading weights go beside the strongest's
SPARSITY = 0.5  # at which the two methods are compared
SPARSITIES = (0.3, SPARSITY, 0.6)
CELLS = (
    ("magnitude", "matrix"),
    ("magnitude", "row"),
    ("wanda", "matrix"),
    ("wanda", "row"),
)  # method, compared within
PUBLISHED = (("magnitude", "matrix"), ("wanda", "row"))  # as in the methods' papers
LINE_TOKENS = 48  # of an answer: long enough to judge
OWN_LINE_TOKENS = 32  # of an answer to one's own words, by the published ways alone: somebody waits

COMPARED = 3  # strongest channels of either sentence
MAP_TOKENS, MAP_CHANNELS = 14, 36  # rows and columns of the picture of a sentence, at most
TOLD_COLUMNS = 6  # the loudest before and after the normalisation
STEPS = ("meet", "change", "sinks", "ablate", "masks", "cost")  # those that ask a model
