skip_without_python()

test_that("pictures are read as squares of pixels", {
  pixels <- read_pictures(c(photograph(), pictures(1, 60, 40)), size = 40, crop_fraction = 1)
  expect_equal(dim(pixels), c(2, 40, 40, 3))
  expect_true(all(pixels >= 0 & pixels <= 255 & pixels == round(pixels)))
  # 60 x 40 pixels, of which the middle 40 are cropped and none resized.
  clouds <- reticulate::import("convnext.images.generated", convert = FALSE)$generated_pictures(1L, 60L)
  expect_identical(pixels[2, , , ], as_r_array(clouds)[1, 1:40, 11:50, ])
})

test_that("what is no picture is an error", {
  expect_error(read_pictures("missing.png"), "missing.png", class = "convnext_image_error")
  expect_error(read_pictures(3), "not numeric", class = "convnext_argument_error")
})
