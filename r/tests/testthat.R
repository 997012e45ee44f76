library(testthat)
library(convnext)

test_check("convnext")
