"""scikit-learn's grid search on its handwritten digits, through joblib.

    python grid_search.py
"""

import joblib
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

import dagmar.parallel  # noqa: F401, which makes the backend known


def main():
    images, digits = load_digits(return_X_y=True)
    grid = {"C": [0.1, 1, 10], "gamma": [1e-4, 1e-3, 1e-2]}
    search = GridSearchCV(SVC(), grid, cv=3, n_jobs=-1)
    # The only line that is ours.
    with joblib.parallel_config("dagmar"):
        search.fit(images, digits)
    print(f"{search.best_params_} is right in {search.best_score_:.4f} of all cases")


if __name__ == "__main__":
    main()
