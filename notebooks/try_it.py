# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Your own photo
#
# **Choose a photo, and see it restored at its own size, at twice and at four times that size.** It stays on this machine: nothing is sent anywhere.
#
# - *True to the photo* is the number w of chapter 07: at 1 the decoder looks at your photo, at 0 it believes the tokens alone.
# - *Boldness* is the temperature at which tokens are drawn. The model *detail* draws; the model *course* takes the mean of the codes, so there the knob only decides how sharp that mean is.
# - Another *seed* is another draw. What changes was invented; what stays is in your photo.
#
# A small or much compressed photo shows most. Of a large one, begin with a piece from the middle: two cores restore about 1,500 pixels a second. To stop, choose *Kernel → Interrupt Kernel*.
#
# For whole folders there is a command: `vartutor upscale FOLDER --model detail --out restored`.

# %% tags=["nbval-ignore-output"]
from vartutor.show.try_it import TryIt

TryIt()
