skip_without_python()

# The same pictures, weights and calls in a process that is Python alone.
PROGRAM <- '
import sys
import numpy as np
from convnext import VARIANTS, Classifier, create_convnext_v2, save_weights
from convnext.applications import ConvNeXtV2Atto
from convnext.images.decode import decode
from convnext.images.recipe import Preprocess
from convnext.images.transform import pixels
from convnext.weights.random_weights import random_weights

folder, *pictures = sys.argv[1:]
put = lambda name, values: np.asarray(values, "<f8").tofile(f"{folder}/{name}")

wide = np.stack([np.array(decode(picture).resize((64, 32))) for picture in pictures]).astype("float32")
put("wide", wide)
bundled = create_convnext_v2("atto", 10, (32, 64, 3), weights="bundled", include_preprocessing=True)
put("bundled", bundled.predict(wide, verbose=0))

save_weights(random_weights(VARIANTS["convnextv2_atto"], 7), f"{folder}/random.safetensors")
random = ConvNeXtV2Atto(weights=f"{folder}/random.safetensors", classes=7, input_shape=(32, 64, 3))
put("random", random.predict(wide, verbose=0))
maps = ConvNeXtV2Atto(weights=f"{folder}/random.safetensors", include_top=False)
put("maps", maps.predict(wide, verbose=0))

classifier = Classifier("bundled")
answers = list(classifier.stream(pictures, 10))
put("probabilities", [[score.probability for score in answer.classes] for answer in answers])
put("classes", [[score.index for score in answer.classes] for answer in answers])
put("vectors", [embedding.vector for embedding in classifier.embed_stream(pictures)])
put("heat", classifier.explain(pictures[0], "cat").heat)

squares = np.stack([pixels(decode(picture), Preprocess(size=24)) for picture in pictures])
put("squares", squares)
'

folder <- tempfile()
dir.create(folder)
files <- c(photograph(), pictures(2, 50, 70))
program <- file.path(folder, "program.py")
writeLines(PROGRAM, program)
status <- system2(
  reticulate::py_config()$python, shQuote(c(program, folder, files)),
  stdout = FALSE, stderr = "",
  env = "LD_LIBRARY_PATH=" # R sets it, and another Python's library may lie there
)

# Python's numbers, its last index running fastest.
python <- function(name, ...) {
  file <- file.path(folder, name)
  aperm(array(readBin(file, "double", file.size(file) / 8, endian = "little"), rev(c(...))))
}

TOLERANCE <- 1e-5 # float32, whose sums threads add up in one order or another

test_that("the program ran", {
  expect_equal(status, 0)
})

test_that("classes, vectors and heat are those of Python", {
  answers <- classify(files, "bundled", top = 10)
  expect_equal(matrix(answers$probability, 3, byrow = TRUE), python("probabilities", 3, 10), tolerance = TOLERANCE)
  expect_equal(matrix(answers$class, 3, byrow = TRUE) - 1, python("classes", 3, 10))
  expect_equal(unname(embed(files, "bundled")), python("vectors", 3, 320), tolerance = TOLERANCE)
  expect_equal(attr(explain(files[1], "bundled", "cat"), "heat"), python("heat", 4, 4), tolerance = TOLERANCE)
})

test_that("pixels are those of Python", {
  expect_identical(read_pictures(files, size = 24), python("squares", 3, 24, 24, 3))
})

test_that("Keras models predict what they predict in Python, by name, by path and without the top", {
  wide <- python("wide", 3, 32, 64, 3)
  bundled <- create_convnext_v2("atto", 10, c(32, 64, 3), weights = "bundled", include_preprocessing = TRUE)
  expect_equal(predict(bundled, wide), python("bundled", 3, 10), tolerance = TOLERANCE)
  file <- file.path(folder, "random.safetensors")
  random <- application_convnext_v2_atto(weights = file, classes = 7, input_shape = c(32, 64, 3))
  expect_equal(predict(random, wide), python("random", 3, 7), tolerance = TOLERANCE)
  maps <- application_convnext_v2_atto(weights = file, include_top = FALSE)
  expect_equal(predict(maps, wide), python("maps", 3, 1, 2, 320), tolerance = TOLERANCE)
})
